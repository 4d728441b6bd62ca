// Where the window begins: choose the way to the manager, put the state together, show it.
import { chooseTransport } from '$lib/api/transport';
import { choosePlatform } from '$lib/platform';
import { App as AppState } from '$lib/state/app.svelte';
import { mount } from 'svelte';
import App from './App.svelte';
import './app.css';

const [transport, platform] = await Promise.all([chooseTransport(), choosePlatform()]);
const target = document.getElementById('app');
if (!target) throw new Error('the page has no place for the app');
mount(App, { target, props: { app: new AppState(transport, platform) } });
