// The main job, through the pages: add a machine, initialise, run now, watch, browse, restore.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expectAccessible } from './support/axe';
import { expect, test } from './support/test';

test.use({ stageOf: 'main-job' });

test('a machine is added, backed up, browsed and restored', async ({ page, stage }) => {
  const source = await stage.files('web-1');
  const main = page.getByRole('main');

  await test.step('the empty fleet says what is next', async () => {
    await page.goto('/');
    await expect(page.getByRole('heading', { name: 'No machines yet.' })).toBeVisible();
    await expectAccessible(page, 'the empty fleet');
    await main.getByRole('link', { name: 'Add machine' }).first().click();
  });

  await test.step('where to and what is asked for, and tested', async () => {
    await page.getByLabel('What is the machine called?').fill('web-1');
    await page.getByLabel('Folders and files').fill(source);
    await expect(main, 'a new plan has times').toContainText('Next, by the clock of this computer');
    await expect(main.getByRole('list').getByText(/, 02:00$/)).toHaveCount(5);
    await page.getByLabel('When').selectOption('By hand only');
    await expect(main).not.toContainText('Next, by the clock');
    await expect(main.getByLabel('This computer'), 'for a new user').toBeChecked();
    await expect(page.getByLabel('Folder', { exact: true })).toHaveValue(/^\//);
    await expect(main).toContainText('are free there');
    await expectAccessible(page, 'this computer, offered first');
    await main.getByLabel('A new repository').check();
    await page.getByLabel('Location').fill(stage.opening.rest_url.replace('USER', 'web-1'));
    await page.getByLabel('User').fill('web-1');
    await page.getByText('Certificate of the server, if it is its own').click();
    await page.getByLabel('Certificate of its authority (PEM)').fill(stage.opening.ca_pem);
    await page.getByRole('button', { name: 'Test the connection' }).click();
    await expect(page.getByRole('button', { name: 'Test the connection' })).toBeEnabled();
    await expectAccessible(page, 'adding a machine');
    await page.getByRole('button', { name: 'Make the install line' }).click();
  });

  await test.step('what was minted is shown once, and the line lets the machine in', async () => {
    await expect(page.getByLabel('htpasswd line', { exact: true })).toContainText('htpasswd -B -i');
    await expect(page.getByLabel('repository password', { exact: true })).toHaveText(/^[\w-]{32}$/);
    const minted = await page.getByLabel('rest-server password', { exact: true }).innerText();
    await stage.user('web-1', minted);
    const line = page.getByLabel('install line', { exact: true });
    const block = await line.innerText();
    for (const width of [1024, 1280, 1440]) {
      await page.setViewportSize({ width, height: 720 });
      expect(await line.evaluate(brokenWords), `at ${width}`).toEqual([]);
    }
    // Who selects it instead of pressing the button gets the same, but for the end of the last line.
    await line.evaluate((it) => getSelection()?.selectAllChildren(it));
    expect(await page.evaluate(() => getSelection()?.toString())).toBe(block.trimEnd());
    await expectAccessible(page, 'the install line');
    await expect(main).toContainText('Waiting for the machine');
    await expect(main).toContainText(
      'Install restic 0.17 or newer (0.16.1 is the oldest that works).',
    );
    await stage.install('web-1', block);
    await expect(main).toContainText('Knows its plan');
  });

  await test.step('the steps turn green one by one', async () => {
    await main.getByRole('button', { name: 'Initialise: web-1' }).click();
    await expect(main).toContainText('Repository initialised');
    await main.getByRole('button', { name: 'Run now: web-1' }).click();
    await expect(main).toContainText('web-1 is protected.');
    await expectAccessible(page, 'the machine that has arrived');
  });

  await test.step('the fleet and the machine say that it is protected', async () => {
    await main.getByRole('link', { name: 'Open web-1' }).click();
    await expect(page.getByRole('heading', { level: 1 })).toContainText(/protected/i);
    await page.getByRole('navigation', { name: 'Main' }).getByText('Fleet').click();
    await expect(page.getByRole('heading', { level: 1 })).toContainText(/protected/i);
    await expectAccessible(page, 'the fleet');
    await main.getByRole('row', { name: 'web-1' }).getByRole('link', { name: 'web-1' }).click();
  });

  await test.step('the snapshot is listed, and its folders open', async () => {
    await page.getByRole('navigation', { name: 'Machine' }).getByText('Snapshots').click();
    await main.getByRole('table').getByRole('link').first().click();
    for (const folder of source.split('/').slice(1)) {
      await main.getByRole('link', { name: folder, exact: true }).click();
    }
    await expect(main.getByRole('button', { name: 'one', exact: true })).toBeVisible();
    await main.getByLabel('Choose we[ird]*na?me').check();
    await expect(main.getByText('1 path chosen')).toBeVisible();
    await expectAccessible(page, 'the files of a snapshot');
  });

  await test.step('what is chosen is restored, and the run says where to', async () => {
    await main.getByRole('button', { name: 'Restore the chosen' }).click();
    await expect(page.getByRole('heading', { level: 1 })).toContainText(
      'Restore on web-1 succeeded',
    );
    const target = await main.getByLabel('folder', { exact: true }).innerText();
    const restored = await readFile(join(target, source, 'we[ird]*na?me'), 'utf8');
    expect(restored).toBe('333');
    await expectAccessible(page, 'a run that has ended');
  });
});

/** The words of a block that stand on two lines although one would hold them. */
function brokenWords(block: Element): string[] {
  const room = block.clientWidth - 28;
  const broken: string[] = [];
  const texts = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    for (const { 0: word, index } of (text.nodeValue ?? '').matchAll(/\S+/g)) {
      const range = document.createRange();
      range.setStart(text, index);
      range.setEnd(text, index + word.length);
      const lines = [...range.getClientRects()].map(({ top, width }) => ({ top, width }));
      const width = lines.reduce((sum, line) => sum + line.width, 0);
      if (new Set(lines.map(({ top }) => top)).size > 1 && width <= room) broken.push(word);
    }
  }
  return broken;
}
