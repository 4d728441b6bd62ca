// The tags of a machine as they are typed. They outlive the page, as all does that is typed.

/** The typed tags; nothing as long as none were changed. */
export class TypedTags {
  tags = $state.raw<string[]>();
}
