// A refusal reaches its field, or stands above the form; none is lost.
import { Problem } from '$lib/api/problem';
import { describe, expect, it } from 'vitest';
import { FormErrors } from './form-errors.svelte';

const refused = (field?: string) => new Problem('invalid_input', 'No.', { field, guidance: 'Do.' });

describe('the errors of a form', () => {
  it('go to the field that the server names', () => {
    const errors = new FormErrors(['name', 'plan.paths']);
    errors.take(refused('name'));
    expect(errors.of('name')).toBe('No. Do.');
    errors.take(refused('paths'), 'plan.');
    expect(errors.of('plan.paths')).toBe('No. Do.');
    expect(errors.general).toBeUndefined();
  });

  it('go to the field that the named one is a part of', () => {
    const errors = new FormErrors(['plan.retention']);
    errors.take(refused('retention.keep_within'), 'plan.');
    expect(errors.of('plan.retention')).toBe('No. Do.');
  });

  it('stand above the form when it has no such field', () => {
    const errors = new FormErrors(['name']);
    errors.take(refused('colour'));
    expect(errors.general?.message).toBe('No.');
    errors.clear();
    errors.take(new TypeError('network'));
    expect(errors.general?.code).toBe('unreachable');
    expect(errors.isAny).toBe(true);
  });

  it('go when what they were said of is changed, and are there again with it', () => {
    const typed = { name: 'web 1', paths: 'docs' };
    const errors = new FormErrors(['name', 'paths'], (field) => typed[field as keyof typeof typed]);
    errors.take(refused('name'));
    errors.take(refused('paths'));
    typed.name = 'web-1';
    expect([errors.of('name'), errors.of('paths')]).toEqual([undefined, 'No. Do.']);
    typed.paths = '/docs';
    expect(errors.isAny).toBe(false);
    typed.paths = 'docs';
    expect(errors.of('paths')).toBe('No. Do.');
  });
});
