/** What the server answered, or that it did not. */
export class ApiError extends Error {
  /** One of the library's codes; `UNREACHABLE` when there was no answer. */
  readonly code: string;
  readonly status: number;
  readonly retryable: boolean;

  constructor(code: string, message: string, status: number, retryable: boolean) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryable = retryable;
  }

  /** The server is not there, rather than of another opinion. */
  get isOutage(): boolean {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

const ANSWER_MS = 20_000;

type Query = Readonly<Record<string, string | number | undefined>>;

/** A path below where the page lies, so that it works behind a proxy's prefix. */
export function pathOf(path: string, query: Query = {}): string {
  const used = Object.entries(query).filter((entry): entry is [string, string | number] => {
    const [, value] = entry;
    return value !== undefined && value !== '';
  });
  if (used.length === 0) return path;
  return `${path}?${new URLSearchParams(used.map(([name, value]) => [name, String(value)]))}`;
}

export function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return request<T>('GET', path, undefined, signal);
}

export function post<T>(path: string, body?: object, signal?: AbortSignal): Promise<T> {
  return request<T>('POST', path, body, signal);
}

async function request<T>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<T> {
  const timeout = AbortSignal.timeout(ANSWER_MS);
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, {
      method,
      cache: 'no-store',
      credentials: 'same-origin',
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      headers: { accept: 'application/json', 'content-type': 'application/json' },
      ...(method === 'GET' ? {} : { body: JSON.stringify(body ?? {}) }),
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    const reason = timeout.aborted ? `no answer within ${ANSWER_MS / 1000} s` : 'the server cannot be reached';
    throw new ApiError('UNREACHABLE', reason, 0, true);
  }
  if (!response.ok) throw problem(response, text);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

/** Of an RFC 9457 answer; a proxy in between may have answered otherwise. */
function problem(response: Response, text: string): ApiError {
  try {
    const { code, detail, retryable } = JSON.parse(text) as { code?: string; detail?: string; retryable?: boolean };
    if (typeof code === 'string' && typeof detail === 'string') {
      return new ApiError(code, detail, response.status, retryable === true);
    }
  } catch {
    // Not ours: the status says what can be said.
  }
  const reason = `HTTP ${response.status} ${response.statusText}`.trim();
  return new ApiError('UNREACHABLE', `${reason}, not from Millrace`, response.status, response.status >= 500);
}
