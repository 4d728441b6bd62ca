// What somebody chose of a machine's mode and did not save yet.
import type { Machine } from '$lib/api/types';

export class TypedMode {
  mode = $state<Machine['mode']>();
  days = $state<string>();

  clear(): void {
    this.mode = undefined;
    this.days = undefined;
  }
}
