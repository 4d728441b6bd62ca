// The typed client: paths, parameters and bodies are checked against the server's own document.
import createClient from 'openapi-fetch';
import { Problem } from './problem';
import type { paths } from './schema';
import type { Transport } from './transport';

/** Stands in for a host: requests carry a path only, the transport knows where to. */
const NOWHERE = 'http://manager.invalid';

/** The client; its methods answer with `{ data, error, response }`. */
export type Client = ReturnType<typeof createClient<paths>>;

/** Makes a client over a transport. */
export function makeClient(transport: Transport): Client {
  return createClient<paths>({
    baseUrl: NOWHERE,
    fetch: async (request) => {
      const path = request.url.slice(NOWHERE.length);
      const text = await request.text();
      const answer = await transport.request(request.method, path, text || undefined);
      const isEmpty = answer.status === 204 || answer.status === 304;
      const { status, headers, body } = answer;
      return new Response(isEmpty ? null : body, { status, headers });
    },
  });
}

type Called<T> = Promise<{ data?: T; error?: unknown; response: Response }>;

/** Awaits a call, and throws a {@link Problem} unless it was granted. */
export async function granted<T>(call: Called<T>): Promise<T> {
  let result: Awaited<Called<T>>;
  try {
    result = await call;
  } catch (thrown) {
    throw Problem.from(thrown);
  }
  if (result.response.ok) return result.data as T;
  const { status, headers } = result.response;
  const { error } = result;
  const body = typeof error === 'string' ? error : JSON.stringify(error ?? null);
  throw Problem.of({ status, headers: Object.fromEntries(headers), body });
}
