// Where a refusal goes: to the field that it names if the form has it, and else above the form, so
// that none is ever invisible.
import { Problem } from '$lib/api/problem';

/** The errors of a form. */
export class FormErrors {
  #fields = $state.raw<Record<string, string>>({});
  /** What belongs to no field. */
  general = $state.raw<Problem>();

  /** @param known The fields that the form shows. */
  constructor(private readonly known: readonly string[]) {}

  /** The error of a field. */
  of(field: string): string | undefined {
    return this.#fields[field];
  }

  /** Whether there is any. */
  get isAny(): boolean {
    return this.general !== undefined || Object.keys(this.#fields).length > 0;
  }

  /** Takes them all away. */
  clear(): void {
    this.#fields = {};
    this.general = undefined;
  }

  /** Puts one error to a field. */
  set(field: string, message: string): void {
    this.#fields = { ...this.#fields, [field]: message };
  }

  /**
   * Takes a refusal.
   * @param prefix Stands before the server's field names where one form fills several requests.
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
