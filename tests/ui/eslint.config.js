// What the linters hold: typed tests that wait for conditions.
import js from '@eslint/js';
import ts from 'typescript-eslint';

export default ts.config(
  { ignores: ['node_modules', 'results'] },
  js.configs.recommended,
  ...ts.configs.strict,
  {
    files: ['**/*.mjs'],
    languageOptions: {
      globals: {
        console: 'readonly',
        document: 'readonly',
        process: 'readonly',
        requestAnimationFrame: 'readonly',
      },
    },
  },
  {
    files: ['**/*.ts'],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      // TypeScript knows what is defined.
      'no-undef': 'off',
      // A fixture that needs no other one is written so.
      'no-empty-pattern': 'off',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      '@typescript-eslint/consistent-type-imports': 'error',
      // A promise that nobody awaits is a test that checks nothing.
      '@typescript-eslint/no-floating-promises': 'error',
      'no-restricted-properties': [
        'error',
        { property: 'waitForTimeout', message: 'Wait for a condition, never for a time.' },
      ],
    },
  },
);
