// A refusal as the UI handles it. Branch on `code` only; the texts are for people.
import type { components } from './schema';
import type { Answer } from './transport';

type ProblemView = components['schemas']['ProblemView'];

/** The server's stable codes, and the one that only a client can find: nobody answered. */
export type ProblemCode = components['schemas']['Code'] | 'unreachable';

/** Why something was not done. */
export class Problem extends Error {
  /** What to do next. */
  readonly guidance: string | undefined;
  /** The field of the request that is at fault. */
  readonly field: string | undefined;
  /** The open run that stands in the way. */
  readonly runId: string | undefined;

  constructor(
    readonly code: ProblemCode,
    message: string,
    more: { guidance?: string | null; field?: string | null; run_id?: string | null } = {},
    /** Seconds until the next attempt is looked at. */
    readonly retryAfter?: number,
  ) {
    super(message);
    this.name = 'Problem';
    this.guidance = more.guidance ?? undefined;
    this.field = more.field ?? undefined;
    this.runId = more.run_id ?? undefined;
  }

  /** Reads a refusal out of an answer. */
  static of(answer: Answer): Problem {
    const view = parse(answer.body);
    const after = Number(answer.headers['retry-after']) || undefined;
    if (view) return new Problem(view.code, view.message, view, after);
    const guidance = 'Something between this page and the manager may be in the way. Try again.';
    const message = `The manager answered with ${answer.status} and no reason.`;
    return new Problem('internal', message, { guidance }, after);
  }

  /** Makes any thrown thing a problem. */
  static from(thrown: unknown): Problem {
    if (thrown instanceof Problem) return thrown;
    return new Problem('unreachable', 'The manager does not answer.', {
      guidance: 'Nothing was lost. Check that it is running, and try again.',
    });
  }
}

function parse(body: string): ProblemView | undefined {
  try {
    const view: unknown = JSON.parse(body);
    const isProblem =
      typeof view === 'object' && view !== null && 'code' in view && 'message' in view;
    return isProblem ? (view as ProblemView) : undefined;
  } catch {
    return undefined;
  }
}
