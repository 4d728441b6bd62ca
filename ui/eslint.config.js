// What the linters hold: safety of the webview, one door to Tauri, and which way folders may look.
import js from '@eslint/js';
import svelte from 'eslint-plugin-svelte';
import globals from 'globals';
import ts from 'typescript-eslint';
import svelteConfig from './svelte.config.js';

const tauri = {
  group: ['@tauri-apps/*'],
  message: 'Only *.tauri.ts files and lib/platform/tauri.ts may know Tauri.',
};
const features = {
  group: ['$features/*', '**/features/*'],
  message: 'lib/ is presentational or shared: it knows no feature.',
};
const otherFeatures = {
  group: ['$features/*'],
  message: 'Features do not import each other; a view puts them together.',
};

/** The rule against imports that look the wrong way. */
const restrict = (...patterns) => ({ 'no-restricted-imports': ['error', { patterns }] });

export default ts.config(
  { ignores: ['dist', 'node_modules', 'src/lib/api/schema.ts'] },
  js.configs.recommended,
  ...ts.configs.strict,
  ...svelte.configs.recommended,
  {
    languageOptions: { globals: { ...globals.browser, ...globals.node } },
    rules: {
      // TypeScript knows what is defined.
      'no-undef': 'off',
      'no-eval': 'error',
      'no-implied-eval': 'error',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      // Shown text is cleaned of control characters by pattern.
      'no-control-regex': 'off',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-extraneous-class': 'off',
    },
  },
  {
    files: ['**/*.svelte', '**/*.svelte.ts'],
    rules: {
      // Plain sets and maps do bookkeeping that nothing is drawn from; drawn ones are chosen by hand.
      'svelte/prefer-svelte-reactivity': 'off',
    },
    languageOptions: {
      parserOptions: { parser: ts.parser, extraFileExtensions: ['.svelte'], svelteConfig },
    },
  },
  {
    files: ['**/*.svelte'],
    rules: {
      'svelte/no-at-html-tags': 'error',
      // The policy forbids style attributes; style: directives go through the object model.
      'no-restricted-syntax': [
        'error',
        {
          selector: 'SvelteAttribute[key.name=/^on/] > SvelteLiteral',
          message: 'A handler is a function: the policy forbids code in attributes.',
        },
        { selector: 'SvelteAttribute[key.name="style"]', message: 'Use a class or style:name.' },
      ],
      'svelte/require-each-key': 'error',
      'svelte/button-has-type': 'error',
      'svelte/no-target-blank': 'error',
      'svelte/no-navigation-without-resolve': 'off',
    },
  },
  { files: ['src/**'], rules: restrict(tauri) },
  { files: ['src/lib/**'], rules: restrict(tauri, features) },
  { files: ['src/features/**'], rules: restrict(tauri, otherFeatures) },
  {
    files: ['src/**/*.tauri.ts', 'src/lib/platform/tauri.ts'],
    rules: restrict(features),
  },
);
