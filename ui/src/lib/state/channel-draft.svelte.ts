// A channel as it is typed. What is secret is never shown again: an empty field leaves it as it is.
import type { Channel, CreateChannelForm, UpdateChannelForm } from '$lib/api/types';
import type { Kind } from '$lib/domain/alarms';

/** How the connection to a mail server is secured. */
export type Security = 'tls' | 'starttls' | 'none';

/** What is typed. */
export class ChannelDraft {
  kind = $state<Kind>('ntfy');
  name = $state('');
  url = $state('');
  token = $state('');
  /** The token that is there is to go. */
  dropsToken = $state(false);
  host = $state('');
  port = $state('587');
  security = $state<Security>('starttls');
  username = $state('');
  from = $state('');
  to = $state('');
  allHosts = $state(true);
  hostIds = $state<string[]>([]);
  hostTags = $state<string[]>([]);

  #before = '';

  /** The revision that this is based on. */
  readonly revision: number | undefined;

  private constructor(channel?: Channel) {
    this.revision = channel?.revision;
    if (channel) {
      this.kind = channel.kind as Kind;
      this.name = channel.name;
      this.allHosts = channel.all_hosts;
      this.hostIds = [...channel.host_ids];
      this.hostTags = [...channel.host_tags];
    }
    const mail = channel?.mail;
    if (mail) {
      this.host = mail.host;
      this.port = String(mail.port);
      this.security = mail.security;
      this.username = mail.username ?? '';
      this.from = mail.from;
      this.to = mail.to.join('\n');
    }
    this.#before = this.#all();
  }

  /** A new channel. */
  static empty(): ChannelDraft {
    return new ChannelDraft();
  }

  /** A channel that is there. */
  static of(channel: Channel): ChannelDraft {
    return new ChannelDraft(channel);
  }

  /** Whether something is typed that is not saved. */
  get isChanged(): boolean {
    return this.#all() !== this.#before;
  }

  /** What stands in a field of this name. */
  typed(field: string): unknown {
    const mail: Record<string, unknown> = {
      'mail.host': this.host,
      'mail.port': this.port,
      'mail.security': this.security,
      'mail.username': this.username,
      'mail.from': this.from,
      'mail.to': this.to,
    };
    if (field in mail) return mail[field];
    if (field === 'host_ids') return this.hostIds.join();
    if (field === 'host_tags') return this.hostTags.join();
    return { name: this.name, url: this.url, token: this.token }[field];
  }

  /** What cannot be sent as it is: fields and why. */
  wrong(isNew: boolean): [field: string, message: string][] {
    const wrong: [string, string][] = [];
    if (!this.name.trim()) wrong.push(['name', 'Give the channel a name.']);
    if (this.kind !== 'smtp') {
      if (isNew && !this.url.trim()) wrong.push(['url', 'Say where it leads.']);
      return wrong;
    }
    const port = Number(this.port.trim());
    if (!Number.isInteger(port) || port < 1 || port > 65_535)
      wrong.push(['mail.port', 'A port is a number from 1 to 65535.']);
    if (!this.host.trim()) wrong.push(['mail.host', 'Name the mail server.']);
    if (!this.from.trim()) wrong.push(['mail.from', 'Say whose mail it is.']);
    if (this.#to().length === 0) wrong.push(['mail.to', 'Say who gets it.']);
    return wrong;
  }

  /** As it is made. */
  forNew(): CreateChannelForm {
    return {
      ...this.#shared(),
      kind: this.kind,
      url: this.kind === 'smtp' ? undefined : this.url.trim(),
      token: this.token || undefined,
    };
  }

  /** As it is changed. */
  forChange(): UpdateChannelForm {
    return {
      ...this.#shared(),
      url: this.url.trim() || undefined,
      token: this.token || (this.dropsToken ? null : undefined),
      revision: this.revision,
    };
  }

  #shared() {
    const mail = {
      host: this.host.trim(),
      port: Number(this.port.trim()),
      security: this.security,
      username: this.username.trim() || null,
      from: this.from.trim(),
      to: this.#to(),
    };
    return {
      name: this.name,
      mail: this.kind === 'smtp' ? mail : undefined,
      all_hosts: this.allHosts,
      host_ids: [...this.hostIds],
      host_tags: [...this.hostTags],
    };
  }

  #to(): string[] {
    return this.to.split(/[\s,;]+/).filter(Boolean);
  }

  #all(): string {
    const secrets = [this.url, this.token, this.dropsToken, this.kind];
    return JSON.stringify([secrets, this.#shared(), this.to, this.port]);
  }
}
