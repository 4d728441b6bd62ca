// The main job with the keyboard alone: no pointer is ever used, and the focus is always visible.
import type { Page } from '@playwright/test';
import { expect, test } from './support/test';

test.use({ stageOf: 'keyboard' });

const heading = (page: Page) => page.getByRole('heading', { level: 1 });

/** What has the focus: its role or tag, and its name. */
function focused(page: Page): Promise<string> {
  return page.evaluate(() => {
    const it = document.activeElement;
    if (!(it instanceof HTMLElement)) return '';
    const fields = [HTMLInputElement, HTMLTextAreaElement, HTMLSelectElement];
    const field = fields.find((one) => it instanceof one) && (it as HTMLInputElement);
    const label = field ? field.labels?.[0]?.textContent : undefined;
    return (it.getAttribute('aria-label') ?? label ?? it.textContent ?? '').trim();
  });
}

/** Goes on with the tab key until something of this name has the focus. */
async function tabTo(page: Page, name: RegExp): Promise<void> {
  const seen: string[] = [];
  for (let step = 0; step < 80; step += 1) {
    await page.keyboard.press('Tab');
    const now = await focused(page);
    if (name.test(now)) {
      await expectFocusIsVisible(page, now);
      return;
    }
    seen.push(now);
  }
  throw new Error(`the focus never came to ${name}; it was at ${seen.join(' | ')}`);
}

async function expectFocusIsVisible(page: Page, name: string): Promise<void> {
  const isVisible = await page.evaluate(() => {
    const marks = (it: Element) => {
      const style = getComputedStyle(it);
      return style.outlineStyle !== 'none' || style.boxShadow !== 'none';
    };
    // The mark of a row's link may be around its row.
    const it = document.activeElement;
    return [it, it?.closest('tr')].some((one) => one != null && marks(one));
  });
  expect(isVisible, `the focus on ${name} is visible`).toBe(true);
}

async function type(page: Page, name: RegExp, text: string): Promise<void> {
  await tabTo(page, name);
  await page.keyboard.insertText(text);
}

async function press(page: Page, name: RegExp, key = 'Enter'): Promise<void> {
  await tabTo(page, name);
  await page.keyboard.press(key);
}

test('a machine is added, backed up and restored by keys', async ({ page, stage }) => {
  const main = page.getByRole('main');
  const source = await stage.files('tabby');
  const { credential, url } = await stage.user('tabby');
  await page.goto('/');
  await expect(heading(page)).toHaveText('No machines yet.');

  await test.step('by the palette to Add machine, and through its form', async () => {
    await page.keyboard.press('Control+k');
    await expect(page.getByRole('combobox')).toBeFocused();
    await page.keyboard.type('add');
    await expect(page.getByRole('option')).toHaveCount(1);
    await page.keyboard.press('Enter');
    await expect(page.getByLabel('What is the machine called?')).toBeFocused();
    await page.keyboard.type('tabby');
    await type(page, /^Folders and files/, source);
    await press(page, /^When/, 'End');
    await press(page, /^This computer/, 'ArrowDown');
    expect(await focused(page), 'the next choice').toMatch(/^A new repository/);
    await type(page, /^Location/, url);
    await type(page, /^User/, 'tabby');
    await type(page, /^Password for the rest-server/, credential);
    await press(page, /^Certificate of the server/, 'Space');
    await type(page, /^Certificate of its authority/, stage.opening.ca_pem);
    await press(page, /^Test the connection/);
    await expect(page.getByRole('button', { name: 'Test the connection' })).toBeEnabled();
    await press(page, /^Make the install line/);
  });

  await test.step('the line, initialise, first backup', async () => {
    const block = page.getByLabel('install line', { exact: true });
    await expect(block).toBeVisible();
    await stage.install('tabby', await block.innerText());
    await expect(main).toContainText('Knows its plan');
    await press(page, /^Initialise: tabby/);
    await expect(main).toContainText('Repository initialised');
    await press(page, /^Run now: tabby/);
    await expect(main).toContainText('tabby is protected.');
  });

  await test.step('the row of the fleet, its action, and its page', async () => {
    await page.keyboard.press('g');
    await page.keyboard.press('f');
    await expect(heading(page)).toContainText('protected');
    await page.keyboard.press('j');
    expect(await focused(page)).toBe('tabby');
    await expectFocusIsVisible(page, 'the row');
    await page.keyboard.press('r');
    await expect(main.getByRole('row', { name: /tabby/ })).toContainText(/running|View/);
    await expect(main.getByRole('button', { name: 'Run now: tabby' })).toBeVisible();
    await page.keyboard.press('Enter');
    await expect(heading(page)).toContainText('Protected');
  });

  await test.step('the files of a snapshot, chosen and restored', async () => {
    await press(page, /^Snapshots$/);
    await expect(main.getByRole('table', { name: 'Snapshots' })).toBeVisible();
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    for (const folder of source.split('/').slice(1)) {
      await expect(main.getByRole('link', { name: folder, exact: true })).toBeVisible();
      await page.keyboard.press('j');
      await page.keyboard.press('Enter');
    }
    await expect(main.getByRole('button', { name: 'one', exact: true })).toBeVisible();
    await page.keyboard.press('j');
    await page.keyboard.press('Space');
    await expect(main).toContainText('1 path chosen');
    await press(page, /^Restore the chosen/);
    await expect(heading(page)).toContainText('Restore on tabby succeeded');
  });

  await test.step('the log of the run is found in by keys', async () => {
    await page.keyboard.press('/');
    await expect(page.getByLabel('Find in the log')).toBeFocused();
    await page.keyboard.type('Done');
    await expect(page.locator('mark').first()).toBeVisible();
  });

  await test.step('its repository and a plan, opened, typed into and left', async () => {
    await press(page, /^Open the machine/);
    await press(page, /^Settings$/);
    await press(page, /^Change tabby files/);
    await type(page, /^Leave out/, '*.tmp');
    await press(page, /^Discard changes/);
    await expect(page.getByRole('button', { name: 'Change tabby files' })).toBeFocused();
    await type(page, /^Tags of this machine/, 'cats');
    await page.keyboard.press('Enter');
    await press(page, /^Set the tags/);
    await expect(page.getByText('The tags of tabby are saved.')).toBeVisible();
    await press(page, /^Change the repository/);
    await type(page, /^User/, 'x');
    await press(page, /^Discard changes/);
    expect(await focused(page)).toMatch(/^Change the repository/);
  });

  await test.step('a plan is made for a tag, opened by its row, and changed', async () => {
    await page.keyboard.press('g');
    await page.keyboard.press('p');
    await expect(heading(page)).toHaveText('Every machine has a plan.');
    await press(page, /^New plan$/);
    await type(page, /^Name of the plan/, 'cats');
    await type(page, /^Folders and files/, '/etc');
    await press(page, /^Trash/, 'Space');
    await press(page, /^Patterns of Trash/);
    await expect(main).toContainText('.Trash-*');
    await press(page, /^More: limits/);
    await type(page, /^Upload at most/, '512');
    await press(page, /^Into the repository/, 'End');
    await type(page, /^All machines with one of these tags/, 'cats');
    await page.keyboard.press('Enter');
    await press(page, /^Make the plan/);
    await expect(heading(page)).toHaveText(/^tabby (has|does not have) this plan\.$/);
    await page.keyboard.press('g');
    await page.keyboard.press('p');
    const row = main.getByRole('row', { name: /^[^,]*cats/ });
    await expect(row).toContainText('tagged cats');
    await page.keyboard.press('j');
    expect(await focused(page)).toBe('cats');
    await expectFocusIsVisible(page, 'the row of a plan');
    await page.keyboard.press('Enter');
    await expect(main.getByRole('list', { name: 'Its machines' })).toContainText('has it');
    await type(page, /^Leave out/, '*.tmp');
    await press(page, /^Save/);
    await expect(page.getByText('The plan cats is saved.')).toBeVisible();
    await page.goto('/#/');
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await press(page, /^Settings$/);
    await expect(main).toContainText('It has this plan by its tag cats.');
  });

  await test.step('the machine is removed with its name typed', async () => {
    await press(page, /^Remove$/);
    await expect(page.getByRole('dialog').getByLabel('Type tabby to confirm')).toBeFocused();
    await page.keyboard.type('tabby');
    await page.keyboard.press('Enter');
    await expect(main).toContainText('The machine was removed.');
  });
});
