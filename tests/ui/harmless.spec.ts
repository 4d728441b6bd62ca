// Text that came from a machine may try to look like something else. Wherever it is shown, it has lost
// what could: escapes, control characters, turns of the writing direction, and markup is only text.
import { expect, test } from './support/test';

test.use({ stageOf: 'harmless' });

const ESC = '\u001b';
const BELL = '\u0007';
/** Paints red, sets a title, turns the direction, goes back, and would like to be markup. */
const HOSTILE = `${ESC}[31mred${ESC}[0m${ESC}]0;title${BELL}\u202e\u061cgnp.exe\u202c\u2066x\u2069\b\b<img src=x onerror="document.title='owned'"><b>bold</b>`;
/** What may be left of it. */
const LEFT = `redgnp.exex<img src=x onerror="document.title='owned'"><b>bold</b>`;
const FORBIDDEN =
  // eslint-disable-next-line no-control-regex
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

test('what machines say is only text, on every screen', async ({ page, stage }) => {
  const evil = await stage.puppet('evil', `host ${HOSTILE}`);
  const init = await stage.run(evil.host, { kind: 'init', repository_id: evil.repository });
  await stage.say('evil', init, { started: 'init', finished: {} });
  const run = await stage.run(evil.host, { kind: 'backup', plan_id: evil.plan });
  const main = page.getByRole('main');
  const expectHarmless = async (what: string) => {
    const text = await page.evaluate(() => {
      const titles = [...document.querySelectorAll('[title], [aria-label]')].map(
        (it) => `${it.getAttribute('title')} ${it.getAttribute('aria-label')}`,
      );
      return [document.title, document.body.textContent, ...titles].join('\n');
    });
    expect(text.match(FORBIDDEN)?.[0], what).toBeUndefined();
    await expect(page.locator('img[src="x"]'), what).toHaveCount(0);
  };

  await page.goto(`/#/runs/${run}`);
  await stage.say('evil', run, {
    started: 'backup',
    lines: [`first ${HOSTILE}`],
    progress: { current_files: [`/srv/${HOSTILE}`], unreachable: `no answer ${HOSTILE}` },
  });
  const line = page.getByRole('log').locator('.row .text');
  await expect(line).toHaveText(`first ${LEFT}`);
  await expect(main).toContainText('no answer red');
  await expectHarmless('a run that is going');

  await stage.say('evil', run, {
    finished: {
      status: 'failed',
      exit_code: 1,
      error: `error ${HOSTILE}`,
      guidance: `guidance ${HOSTILE}`,
      unreadable: [{ path: `/srv/${HOSTILE}`, error: `denied ${HOSTILE}` }],
      unreadable_count: 1,
    },
  });
  await expect(main).toContainText(`Error ${LEFT}`);
  await expect(main).toContainText(`guidance ${LEFT}`);
  await expect(main).toContainText(`denied ${LEFT}`);
  await expectHarmless('a run that has ended');

  for (const address of [
    '#/',
    '#/activity',
    '#/settings',
    `#/machines/${evil.host}`,
    `#/machines/${evil.host}/runs`,
    `#/machines/${evil.host}/settings`,
  ]) {
    await page.goto(`/${address}`);
    await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
    await expect(main).not.toContainText('Loading');
    await expectHarmless(address);
  }
  await expect(main).toContainText(`host ${LEFT}`);
  await expect(page).not.toHaveTitle(/owned/);
});
