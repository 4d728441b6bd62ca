import { describe, expect, it } from 'vitest';
import { channel } from '../../test/fakes';
import { alarmGlyph, channelsSentence, deliveryWords, kindWords, whoseWords } from './alarms';

describe('channels', () => {
  it('say for whom they are, and never more than that', () => {
    expect(whoseWords(channel())).toBe('all machines');
    const chosen = (ids: string[]) => channel({ all_hosts: false, all_host_ids: ids });
    expect(whoseWords(chosen([]))).toBe('no machine yet');
    expect(whoseWords(chosen(['m1', 'm2']))).toBe('2 machines');
    expect(channelsSentence([chosen([])])).toBe('No machine has a channel yet.');
    expect(channelsSentence([chosen([]), channel()])).toContain('by 1 channel ');
  });

  it('are written as they write themselves', () => {
    expect(['ntfy', 'smtp', 'of tomorrow'].map(kindWords)).toEqual(['ntfy', 'Mail', 'of tomorrow']);
  });
});

describe('a message', () => {
  it('is called sent only when it was', () => {
    for (const result of ['gave_up', 'superseded', 'waiting'])
      expect(deliveryWords({ result, attempts: 1 })).toMatch(/^not sent/);
    expect(deliveryWords({ result: 'uncertain', attempts: 1 })).toMatch(/^may have arrived/);
    expect(deliveryWords({ result: 'sent', attempts: 1 })).toBe('sent');
  });

  it('has a shape for each state', () => {
    expect(['failed', 'overdue', 'good', 'new'].map(alarmGlyph)).toEqual([
      'failed',
      'missed',
      'ok',
      'unknown',
    ]);
  });
});
