// What axe thinks of a page, in light and in dark.
import axe from 'axe-core';
import type { Page } from '@playwright/test';
import { expect } from './test';

/** Says that axe finds nothing on this page in either scheme. */
export async function expectAccessible(page: Page, what: string): Promise<void> {
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await page.waitForFunction(isPainted, colorScheme);
    expect(await violations(page), `${what}, ${colorScheme}`).toEqual([]);
  }
}

/** Whether the page has taken this scheme, and no colour is on its way to another. */
function isPainted(scheme: string): boolean {
  const isMoving = document.getAnimations().some((it) => it.playState === 'running');
  return document.documentElement.dataset['theme'] === scheme && !isMoving;
}

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const results = await page.evaluate(async () => {
    const engine = (window as unknown as { axe: typeof axe }).axe;
    const { violations } = await engine.run(document, { resultTypes: ['violations'] });
    return violations.map(({ id, help, nodes }) => ({
      id,
      help,
      nodes: nodes.map((node) => `${node.target.join(' ')}: ${node.html}`),
    }));
  });
  return results.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.join('\n')}`);
}
