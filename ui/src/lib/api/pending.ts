// An endpoint that the UI uses and the document does not have yet. When the document gains it, the
// generated types take over and this file goes.
import type { components } from './schema';

type Refusal = { content: { 'application/json': components['schemas']['ProblemView'] } };
type Ok<T> = {
  200: { headers: Record<string, unknown>; content: { 'application/json': T } };
  default: { headers: Record<string, unknown> } & Refusal;
};
type None = { query?: never; header?: never; path?: never; cookie?: never };
type Only<Method extends string, Operation> = { parameters: None } & Record<Method, Operation>;

/** Where to look, before anything is saved. */
export interface TestRepositoryForm {
  url: string;
  username?: string | null;
  credential?: string | null;
  ca_pem?: string | null;
}

/** What was found there: `empty` and `repository` are good news, others are told in words. */
export interface RepositoryTestView {
  state: string;
  message: string;
}

/** The endpoint, in the shape of the generated ones. */
export interface PendingPaths {
  '/api/repositories/test': Only<
    'post',
    {
      parameters: None;
      requestBody: { content: { 'application/json': TestRepositoryForm } };
      responses: Ok<RepositoryTestView>;
    }
  >;
}
