// The one way to the manager: a request, or a stream of events. Over HTTPS in a browser, through the
// shell's bridge in the desktop window; nothing else in the UI knows which.

/** What came back for a request. */
export interface Answer {
  /** The HTTP status. */
  status: number;
  /** Header names in lower case. */
  headers: Record<string, string>;
  /** The body as text; empty when there is none. */
  body: string;
}

/** One event of a stream. The first is always `open`: from then on nothing is missed. */
export interface StreamEvent {
  /** Its name, such as `change`; `open` is the transport's own. */
  event: string;
  /** The id that the server gave it, if any. */
  id?: string;
  /** Its data, usually JSON. */
  data: string;
}

/** A way to the manager. */
export interface Transport {
  /**
   * Sends a request. Resolves for every status; rejects only when nothing answered.
   * @param body JSON text, if there is any.
   * @param isLast It is sent before this returns, and arrives although the page is gone by then.
   */
  request(method: string, path: string, body?: string, isLast?: boolean): Promise<Answer>;
  /**
   * Follows a stream until it ends or `signal` aborts. Rejects with a {@link Refused} when the
   * server refuses it, and with any other error when the connection breaks.
   */
  stream(path: string, onEvent: (event: StreamEvent) => void, signal: AbortSignal): Promise<void>;
}

/** A stream that the server refused. */
export class Refused extends Error {
  constructor(readonly answer: Answer) {
    super(`refused with ${answer.status}`);
    this.name = 'Refused';
  }
}

/** Whether this page runs inside the desktop window. */
export function isDesktop(): boolean {
  return '__TAURI_INTERNALS__' in window;
}

/** Loads the transport that fits where the page runs. */
export async function chooseTransport(): Promise<Transport> {
  if (isDesktop()) {
    const { TauriTransport } = await import('./transport.tauri');
    return new TauriTransport();
  }
  const { HttpTransport } = await import('./transport.http');
  return new HttpTransport();
}
