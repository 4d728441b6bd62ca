// How the UI is built, served while developing, and tested.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { svelteTesting } from '@testing-library/svelte/vite';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/** The policy of the headless server (`ui_listener/pages.rs`), for `preview`. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "font-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const server = process.env['RESTIC_MANAGER_URL'] ?? 'https://localhost:9780';
const target = process.env['RESTIC_MANAGER_MOCK'] ? 'http://localhost:9799' : server;
const proxy = {
  '/api': {
    target,
    // The manager's certificate is its own, and it answers only to requests from its own origin.
    secure: false,
    changeOrigin: true,
    headers: { origin: target },
  },
};

const source = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url));

export default defineConfig({
  base: './',
  plugins: [svelte(), svelteTesting()],
  resolve: { alias: { $lib: source('lib'), $features: source('features') } },
  build: {
    target: 'es2022',
    // A data: font would need a wider policy.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
    modulePreload: { polyfill: false },
  },
  server: { port: 5173, strictPort: true, proxy },
  preview: {
    port: 5174,
    strictPort: true,
    proxy,
    headers: { 'Content-Security-Policy': contentSecurityPolicy },
  },
  test: {
    environment: 'jsdom',
    include: ['src/**/*.test.ts'],
    // A machine that also compiles is slow; only a failure waits this long.
    testTimeout: 30_000,
    setupFiles: ['src/test/setup.ts'],
    restoreMocks: true,
  },
});
