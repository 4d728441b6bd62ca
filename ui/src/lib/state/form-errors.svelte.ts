// Where a refusal goes: to the field that it names if the form has it, and else above the form, so
// that none is ever invisible. An error is of what was typed: it goes when that is changed.
import { Problem } from '$lib/api/problem';

/** The errors of a form. */
export class FormErrors {
  #fields = $state.raw<Record<string, { message: string; typed: unknown }>>({});
  /** What belongs to no field. */
  general = $state.raw<Problem>();

  /**
   * @param known The fields that the form shows.
   * @param typed What stands in a field now.
   */
  constructor(
    private readonly known: readonly string[],
    private readonly typed: (field: string) => unknown = () => undefined,
  ) {}

  /** The error of a field, as long as what it was said of stands there. */
  of(field: string): string | undefined {
    const error = this.#fields[field];
    return error && error.typed === this.typed(field) ? error.message : undefined;
  }

  /** Whether there is any. */
  get isAny(): boolean {
    const fields = Object.keys(this.#fields);
    return this.general !== undefined || fields.some((field) => this.of(field) !== undefined);
  }

  /** Takes them all away. */
  clear(): void {
    this.#fields = {};
    this.general = undefined;
  }

  /** Puts one error to a field. */
  set(field: string, message: string): void {
    this.#fields = { ...this.#fields, [field]: { message, typed: this.typed(field) } };
  }

  /**
   * Takes a refusal.
   * @param prefix Stands before the server's field names where the request was a part of the form.
   */
  take(thrown: unknown, prefix = ''): void {
    const problem = Problem.from(thrown);
    const field = problem.field && this.#match(prefix + problem.field);
    if (!field) {
      this.general = problem;
      return;
    }
    this.set(field, [problem.message, problem.guidance].filter(Boolean).join(' '));
  }

  /** The field itself, or the one that it is a part of: `retention.keep_within`, `paths.3`. */
  #match(field: string): string | undefined {
    for (let name = field; name; name = name.slice(0, Math.max(0, name.lastIndexOf('.')))) {
      if (this.known.includes(name)) return name;
    }
    return undefined;
  }
}
