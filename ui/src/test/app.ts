// The window's state over a fake transport, and a way to show a component in it.
import { App } from '$lib/state/app.svelte';
import { render } from '@testing-library/svelte';
import type { Component } from 'svelte';
import { away, FakeTransport, fakePlatform, store } from './fakes';
import Harness from './Harness.svelte';

/** A transport that knows an empty fleet. */
export function emptyServer(): FakeTransport {
  const system = { version: '0.1.0', addresses: ['h:9781'], counts: { online: 0, hosts: 0 } };
  return new FakeTransport()
    .on('GET', '/api/session', { signed_in: true })
    .on('GET', '/api/hosts', [])
    .on('GET', '/api/notices', [])
    .on('GET', '/api/runs', [])
    .on('GET', '/api/plans', [])
    .on('GET', '/api/plans/presets', [])
    .on('GET', '/api/repositories', [])
    .on('GET', '/api/enrolments', [])
    .on('GET', '/api/store', store())
    .on('GET', '/api/store/space', { total_bytes: 2e12, free_bytes: 1.2e12 })
    .on('GET', '/api/alarm-channels', [])
    .on('GET', '/api/alarms', [])
    .on('GET', '/api/announcements', [])
    .on('GET', '/api/slots', [])
    .on('GET', '/api/away', away())
    .on('GET', '/api/system', system);
}

/** Shows a component in a window over this transport. */
export function show(
  component: unknown,
  transport: FakeTransport,
  props: Record<string, unknown> = {},
) {
  const platform = fakePlatform();
  const app = new App(transport, platform);
  const shown = component as Component<Record<string, unknown>>;
  const result = render(Harness, { props: { app, component: shown, props } });
  return { app, platform, ...result };
}
