// What the last check of a repository found, in words. Pure.
import type { Repository } from '$lib/api/types';
import { clean } from '$lib/format/text';

type Facts = Repository['facts'];

/** What a check found; a word of a newer agent stands as it is, and nothing where none was told. */
export function checkWords(status: string | null | undefined): string {
  if (status === 'ok') return 'no errors';
  if (status === 'failed') return 'errors found';
  return clean(status ?? '');
}

/** The check that says most about several repositories: one that found errors, else the oldest. */
export function tellingCheck(all: readonly Facts[]): Facts | undefined {
  const checked = all.filter((facts) => facts.last_check_at);
  const oldest = checked.sort((a, b) =>
    (a.last_check_at ?? '').localeCompare(b.last_check_at ?? ''),
  );
  return oldest.find((facts) => facts.last_check_status === 'failed') ?? oldest[0];
}
