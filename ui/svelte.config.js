// Svelte's own settings: TypeScript in components, runes everywhere in our code.
import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

/** @type {import('@sveltejs/vite-plugin-svelte').SvelteConfig} */
export default {
  preprocess: vitePreprocess(),
  compilerOptions: {
    // Dependencies may still be written the old way.
    runes: undefined,
  },
};
