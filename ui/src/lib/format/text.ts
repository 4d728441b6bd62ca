// Text that came from machines may try to look like something else: it loses what could.

const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-_])/g;
const INVISIBLE =
  /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** With a capital at its beginning, as a sentence has it. */
export function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The text without terminal escapes, control characters and turns of the writing direction. */
export function clean(text: string): string {
  return text.replace(ESCAPES, '').replace(INVISIBLE, '');
}

/** Some names, and how many more there are: `atlas, nova and 3 more`. */
export function few(names: readonly string[], most = 5): string {
  const shown = names.slice(0, most).map(clean).join(', ');
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}

/** Paths as a page lists them, each an item of its own: a path may hold blanks, and several of them. */
export function pathItems(paths: readonly string[]): string[] {
  return paths.map(clean);
}
