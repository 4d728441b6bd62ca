// Numbers, times and texts as a person reads them.
import { describe, expect, it } from 'vitest';
import { bytes, percent, plural, readBytes, THIN } from './number';
import { clean, few, pathItems } from './text';
import { absolute, ago, coming, left, parse, relative, span, wall } from './time';

const plain = (text: string) => text.replaceAll(THIN, ' ');

describe('when something comes', () => {
  const now = Date.parse('2026-11-29T22:30:00Z');

  it.each([
    ['2026-11-29T22:30:20+00:00', 'now'],
    ['2026-11-29T22:50:00+00:00', 'in 20 min'],
    ['2026-11-29T23:45:00+00:00', 'today, 23:45'],
    ['2026-11-30T02:00:00+00:00', 'tomorrow, 02:00'],
    // There it is past midnight already.
    ['2026-11-30T02:00:00+01:00', 'tomorrow, 02:00'],
    ['2026-11-30T09:00:00+09:00', 'today, 09:00'],
    ['2026-12-03T02:00:00+00:00', 'Thu, 02:00'],
    ['2026-12-13T02:00:00+00:00', 'Sun 13 Dec, 02:00'],
  ])('%s is said as %s', (at, words) => {
    expect(plain(coming(at, now))).toBe(words);
  });
});

describe('bytes', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1 kB'],
    [1_234_567, '1.23 MB'],
    [88_400_000_000, '88.4 GB'],
    [412_000_000_000, '412 GB'],
    [999_600_000, '1 GB'],
    [1_920_000_000_000, '1.92 TB'],
    [-18_000_000_000, '−18 GB'],
  ])('%d is %s', (value, words) => expect(plain(bytes(value))).toBe(words));

  it('say nothing where nothing is known', () => {
    expect(bytes(null)).toBe('—');
    expect(bytes(undefined)).toBe('—');
  });
});

describe('a typed size', () => {
  it.each([
    ['500 GB', 500_000_000_000],
    [' 1.5tb ', 1_500_000_000_000],
    ['1,5 TB', 1_500_000_000_000],
    [`88.4${THIN}GB`, 88_400_000_000],
    ['2 GiB', 2_147_483_648],
    ['12 B', 12],
    ['0 MB', 0],
  ])('%s is %d', (text, value) => expect(readBytes(text)).toBe(value));

  it.each(['', '500', 'GB', '5 XB', '-1 GB', '1e3 GB', '1.2.3 GB', '9999999 PB'])(
    '%s is none',
    (text) => expect(readBytes(text)).toBeUndefined(),
  );
});

describe('a share', () => {
  it('is never 100 before it is whole', () => {
    expect(plain(percent(0.9999))).toBe('99 %');
    expect(plain(percent(1))).toBe('100 %');
    expect(plain(percent(-1))).toBe('0 %');
  });
});

describe('relative time', () => {
  const now = Date.parse('2026-11-24T12:00:00Z');
  const minute = 60_000;
  it.each([
    [0, 'just now'],
    [44_000, 'just now'],
    [50_000, '1 min ago'],
    [59 * minute, '59 min ago'],
    [60 * minute, '1 h ago'],
    [23 * 60 * minute, '23 h ago'],
    [25 * 60 * minute, 'yesterday'],
    [3 * 24 * 60 * minute, '3 days ago'],
    [20 * 24 * 60 * minute, '4 November'],
    [400 * 24 * 60 * minute, '20 October 2025'],
    [-20 * minute, 'in 20 min'],
    [-24 * 60 * minute, 'tomorrow'],
  ])('%d ms ago is %s', (away, words) => {
    expect(plain(relative(now - away, now))).toBe(words);
  });

  it('never tells of what has happened as of what is to come', () => {
    expect(ago(now + 14 * minute, now)).toBe('just now');
    expect(plain(ago(now - 14 * minute, now))).toBe('14 min ago');
  });

  it('has its year where the day is most of a year away', () => {
    expect(wall('2027-01-03T02:00:00+00:00', now)).toBe('Sun 3 Jan, 02:00');
    expect(wall('2028-02-29T02:00:00+00:00', now)).toBe('Tue 29 Feb 2028, 02:00');
  });

  it('reads the server’s times, and takes a bad one for none', () => {
    expect(parse('2026-11-24T12:00:00.123456Z')).toBe(now + 123);
    expect(parse('never')).toBeUndefined();
    expect(parse(null)).toBeUndefined();
  });

  it('has an absolute form', () => expect(absolute(now)).toContain('24 November 2026'));
});

describe('spans', () => {
  it('tell how long something took', () => {
    expect(plain(span(200))).toBe('under 1 s');
    expect(plain(span(9000))).toBe('9 s');
    expect(plain(span(664_000))).toBe('11 min 04 s');
    expect(plain(span(7_500_000))).toBe('2 h 05 min');
  });

  it('tell what is left', () => {
    expect(plain(left(0.2))).toBe('1 s');
    expect(plain(left(725))).toBe('12 min');
    expect(plain(left(200_000))).toBe('2 days');
  });
});

describe('nouns', () => {
  it('agree with their number', () => {
    expect(plural(1, 'file')).toBe('1 file');
    expect(plural(1204, 'line')).toBe('1,204 lines');
  });
});

describe('text from machines', () => {
  it('loses what could make it look like something else', () => {
    expect(clean('a\u001b[31mred\u001b[0m')).toBe('ared');
    expect(clean('a\u001b]0;title\u0007b')).toBe('ab');
    expect(clean('evil\u202egpj.exe')).toBe('evilgpj.exe');
    expect(clean('two\nlines\u0000')).toBe('twolines');
    expect(clean('tab\tstays, ümlaut too')).toBe('tab\tstays, ümlaut too');
  });

  it('names a few and counts the rest', () => {
    expect(few(['atlas', 'no\u202eva'])).toBe('atlas, nova');
    expect(few(['a', 'b', 'c', 'd'], 2)).toBe('a, b and 2 more');
  });

  it('keeps each path apart, with all of its blanks', () => {
    expect(pathItems(['/srv/two  blanks', '/etc\u202e'])).toEqual(['/srv/two  blanks', '/etc']);
  });
});
