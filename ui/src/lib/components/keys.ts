// Which keys belong to the page and which to what the person is typing into.

/** Whether a key press is meant for a field, an open dialog, or a combination of the system. */
export function isTyping(event: KeyboardEvent): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return true;
  const target = event.target instanceof Element ? event.target : null;
  if (document.querySelector('[role="dialog"], .app[inert]')) return true;
  return (
    target?.closest('input:not([type="checkbox"]), textarea, select, [contenteditable]') != null
  );
}
