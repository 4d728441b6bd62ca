// Svelte's own settings: TypeScript in components, runes everywhere in our code.
import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

/** What bits-ui writes as a style attribute, which our content security policy forbids. */
const CONTENTS = 'style="display: contents;"';

/** @type {import('@sveltejs/vite-plugin-svelte').SvelteConfig} */
export default {
  preprocess: [
    vitePreprocess(),
    {
      name: 'no-style-attributes',
      markup({ content, filename }) {
        if (!filename?.includes('bits-ui') || !content.includes(CONTENTS)) return undefined;
        return { code: content.replaceAll(CONTENTS, 'class="contents"') };
      },
    },
  ],
  compilerOptions: {
    // Dependencies may still be written the old way.
    runes: undefined,
  },
};
