import { HEADER_BYTES } from '../../src/protocol/frames.ts';
import { FrameWriter } from '../../src/protocol/writer.ts';

/** The bytes of the frames that `fill` writes. */
export function write(fill: (writer: FrameWriter) => void): Buffer {
  const chunks: Buffer[] = [];
  const sink = {
    write: (bytes: Uint8Array, written?: () => void): void => {
      chunks.push(Buffer.from(bytes));
      written?.();
    },
  };
  const writer = new FrameWriter(sink, () => {});
  fill(writer);
  writer.flush();
  return Buffer.concat(chunks);
}

/** The same of one frame, without its header. */
export function body(type: number, fill: (writer: FrameWriter) => void): Buffer {
  return write((writer) => {
    writer.begin(type, 7);
    fill(writer);
    writer.end();
  }).subarray(HEADER_BYTES);
}
