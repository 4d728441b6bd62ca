// The message of a notice is there as long as the notice is open.
import { describe, expect, it } from 'vitest';
import { emptyServer } from '../../test/app';
import { fakePlatform, notice } from '../../test/fakes';
import { App } from './app.svelte';

describe('the message of a notice', () => {
  it('goes when the notice is resolved, and no other with it', () => {
    const { news, toasts } = new App(emptyServer(), fakePlatform());
    const titles = () => toasts.list.map((toast) => toast.title);
    const [one, two] = [notice(), notice({ id: 'n2', message: 'A key was used twice.' })];
    news.seeNotices([]);
    news.seeNotices([one, two]);
    toasts.show({ tone: 'bad', title: 'Something else.' });
    expect(titles()).toEqual([one.message, two.message, 'Something else.']);
    news.seeNotices([two]);
    expect(titles()).toEqual([two.message, 'Something else.']);
  });
});
