/** What a record is; the journal does not look inside. 1–15 are the journal's own, 16–255 its user's. */
export type RecordType = number;

/** Where the body of a record lies: a segment's number and the byte offset in its file. */
export interface Position {
  segment: number;
  offset: number;
}

/** One object is used for all records of a pass: copy what must outlive the callback. */
export interface JournalRecord extends Position {
  type: RecordType;
  sequence: number;
  epoch: number;
  /** Valid during the callback only. */
  body: Buffer;
}

/** Names what a record is about, for messages: task ids. */
export type Describe = (type: RecordType, body: Buffer) => string;
