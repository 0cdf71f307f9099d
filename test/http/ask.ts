import { request } from 'node:http';

/** An answer, its body read. */
export interface Answered {
  status: number;
  headers: Headers;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it asked for.
  json: any;
}

export type Method = 'GET' | 'HEAD' | 'OPTIONS' | 'POST' | 'PUT' | 'DELETE';

/** A request as a client with JSON makes it. */
export async function ask(
  url: string,
  method: Method = 'GET',
  body?: unknown,
  { headers = {}, signal = null }: { headers?: Record<string, string>; signal?: AbortSignal | null } = {},
): Promise<Answered> {
  const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' };
  const response = await fetch(url, {
    ...{ method, signal, headers: { ...type, ...headers } },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = /json/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: isJson && text !== '' ? JSON.parse(text) : undefined,
  };
}

/** As `ask`, with headers that `fetch` does not let one set, such as Host. `arrived`: the server is at work on it. */
export function askRaw(
  url: string,
  method: Method = 'GET',
  { headers = {}, body = '', arrived }: { headers?: Record<string, string>; body?: string; arrived?: () => void } = {},
): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const expecting: Record<string, string> = arrived === undefined ? {} : { expect: '100-continue' };
    const asked = request(url, { method, headers: { ...headers, ...expecting }, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => {
        const entries = Object.entries(response.headers).map(([name, value]): [string, string] => [
          name,
          String(value),
        ]);
        const isJson = /json/.test(response.headers['content-type'] ?? '');
        const json = isJson ? JSON.parse(text) : undefined;
        resolve({ status: response.statusCode ?? 0, headers: new Headers(entries), text, json });
      });
    });
    asked.on('error', reject);
    if (arrived !== undefined) asked.on('continue', arrived);
    asked.end(body);
  });
}
