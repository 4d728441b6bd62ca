// Messages that leave by themselves, and those that do not.
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Toasts } from './toasts.svelte';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const titles = (toasts: Toasts) => toasts.list.map((it) => it.title);

it('leave after some seconds, but not what went wrong', () => {
  const toasts = new Toasts();
  toasts.show({ tone: 'good', title: 'saved' });
  toasts.show({ tone: 'bad', title: 'failed' });
  vi.advanceTimersByTime(4000);
  expect(titles(toasts)).toEqual(['saved', 'failed']);
  vi.advanceTimersByTime(2000);
  expect(titles(toasts)).toEqual(['failed']);
  vi.advanceTimersByTime(3_600_000);
  expect(titles(toasts)).toEqual(['failed']);
});

it('stay while somebody is at them, and their time anew after it', () => {
  const toasts = new Toasts();
  toasts.show({ tone: 'good', title: 'saved' });
  vi.advanceTimersByTime(4000);
  toasts.hold(true);
  toasts.show({ tone: 'plain', title: 'begins' });
  vi.advanceTimersByTime(60_000);
  expect(titles(toasts)).toEqual(['saved', 'begins']);
  toasts.hold(false);
  vi.advanceTimersByTime(4000);
  expect(titles(toasts)).toEqual(['saved', 'begins']);
  vi.advanceTimersByTime(2000);
  expect(titles(toasts)).toEqual([]);
});
