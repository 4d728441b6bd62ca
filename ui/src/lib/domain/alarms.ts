// Alarms and the channels by which agents tell them, in words. Pure.
import type { Alarm, AlarmDelivery, Channel } from '$lib/api/types';
import { plural } from '$lib/format/number';
import type { GlyphName } from './run';

/** The kinds of channels, in the order in which they are offered. */
export const KINDS = [
  { value: 'ntfy', words: 'ntfy: push messages on a phone' },
  { value: 'smtp', words: 'Mail' },
  { value: 'webhook', words: 'Webhook: JSON to a program of yours' },
  { value: 'ping', words: 'Ping: a check that expects to hear of each good run' },
] as const;

/** What a new channel is silent about, and how to see that it works all the same. */
export const FROM_NOW_ON =
  'A channel tells of what changes after it was added, not of what is failed or overdue already; a test message shows that it works.';

/** A kind of channel. */
export type Kind = (typeof KINDS)[number]['value'];

const KIND_WORDS: Record<string, string> = {
  ntfy: 'ntfy',
  smtp: 'Mail',
  webhook: 'Webhook',
  ping: 'Ping',
};

/** A kind in a word; one of a newer manager stands as it is. */
export function kindWords(kind: string): string {
  return KIND_WORDS[kind] ?? kind;
}

/** For which machines a channel is. */
export function whoseWords(channel: Channel): string {
  if (channel.all_hosts) return 'all machines';
  const count = channel.all_host_ids.length;
  return count === 0 ? 'no machine yet' : plural(count, 'machine');
}

/** How a plan stands, as a shape. */
export function alarmGlyph(state: string): GlyphName {
  switch (state) {
    case 'failed':
      return 'failed';
    case 'overdue':
      return 'missed';
    case 'good':
      return 'ok';
    default:
      return 'unknown';
  }
}

/** What an alarm says. */
export function alarmWords(alarm: Pick<Alarm, 'state'>): string {
  switch (alarm.state) {
    case 'failed':
      return 'Failed';
    case 'overdue':
      return 'Overdue';
    case 'good':
      return 'Good again';
    default:
      return alarm.state;
  }
}

/** What became of a message. */
export function deliveryWords(delivery: Pick<AlarmDelivery, 'result' | 'attempts'>): string {
  switch (delivery.result) {
    case 'sent':
      return 'sent';
    case 'gave_up':
      return `not sent, given up after ${plural(delivery.attempts, 'attempt')}`;
    case 'superseded':
      return 'not sent: newer news took its place';
    case 'uncertain':
      return 'may have arrived: no answer came, and it is not sent twice';
    case 'waiting':
      return 'not sent yet';
    default:
      return delivery.result;
  }
}

/** The first sentence of the page. */
export function channelsSentence(channels: readonly Channel[]): string {
  const used = channels.filter((it) => it.all_hosts || it.all_host_ids.length > 0).length;
  if (used === 0) return 'No machine has a channel yet.';
  return used === 1
    ? 'You are told by 1 channel when a backup fails or is overdue.'
    : `You are told by ${used} channels when a backup fails or is overdue.`;
}
