// A repository as it is changed. Only what is typed anew is sent: an absent field stays as it is.
import type { Repository, UpdateRepositoryForm } from '$lib/api/types';

/** The typed repository. */
export class RepositoryDraft {
  name = $state('');
  url = $state('');
  username = $state('');
  /** For its server; empty keeps the one that is there. */
  credential = $state('');
  /** Its own; empty keeps the one that is there. */
  password = $state('');
  /** Its name, typed to replace its own password. */
  confirm = $state('');
  caPem = $state('');
  appendOnly = $state(false);

  constructor(private readonly before: Repository) {
    this.name = before.name;
    this.url = before.url;
    this.username = before.username ?? '';
    this.caPem = before.ca_pem ?? '';
    this.appendOnly = before.append_only;
  }

  /** Whether anything is typed that would change it. */
  get isChanged(): boolean {
    return Object.keys(this.read()).length > 0;
  }

  /** Whether it would be at another place. */
  get isMoved(): boolean {
    return this.url.trim() !== this.before.url;
  }

  /** What is typed as the server takes it. */
  read(): UpdateRepositoryForm {
    const { before } = this;
    const form: UpdateRepositoryForm = {};
    const username = this.username.trim() || null;
    const caPem = this.caPem.trim() || null;
    if (this.name.trim() !== before.name) form.name = this.name.trim();
    if (this.isMoved) form.url = this.url.trim();
    if (username !== (before.username ?? null)) form.username = username;
    if (caPem !== (before.ca_pem?.trim() || null)) form.ca_pem = caPem;
    if (this.appendOnly !== before.append_only) form.append_only = this.appendOnly;
    // The two go together, so who takes the user away means the password as well.
    if (this.credential) form.credential = this.credential;
    else if (!username && before.has_credential) form.credential = null;
    if (this.password) {
      form.password = this.password;
      form.confirm = this.confirm;
    }
    return form;
  }
}
