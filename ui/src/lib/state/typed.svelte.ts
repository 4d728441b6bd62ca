// What is typed over a value that is there already. It is kept apart from the value, so that the field
// follows the value until somebody types.

/** A field's own text. */
export class Typed {
  /** Nothing until somebody types, and again once that is saved. */
  text = $state<string>();
}
