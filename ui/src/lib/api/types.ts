// Short names for the server's views, so that the rest of the UI reads well.
import type { components } from './schema';

type Schemas = components['schemas'];

export type Announcement = Schemas['AnnouncementView'];
export type Code = Schemas['Code'];
export type CreatedEnrolment = Schemas['CreatedEnrolmentView'];
export type CreatedRepository = Schemas['CreatedRepositoryView'];
export type CreateEnrolmentForm = Schemas['CreateEnrolmentForm'];
export type CreatePlanForm = Schemas['CreatePlanForm'];
export type CreateRepositoryForm = Schemas['CreateRepositoryForm'];
export type Enrolment = Schemas['EnrolmentView'];
export type LastRun = Schemas['LastRunView'];
export type LeftBehind = Schemas['LeftBehindView'];
export type Lock = Schemas['LockView'];
export type LogLine = Schemas['LogLineView'];
export type Machine = Schemas['HostView'];
export type NextAction = Schemas['NextActionView'];
export type Notice = Schemas['NoticeView'];
export type PlanForMachineForm = Schemas['PlanForMachineForm'];
export type Plan = Schemas['PlanView'];
export type PlanTimes = Schemas['TimesView'];
export type Progress = Schemas['ProgressView'];
export type Repository = Schemas['RepositoryView'];
export type Retention = Schemas['RetentionView'];
export type Run = Schemas['RunView'];
export type RunKind = Schemas['RunKind'];
export type RunStatus = Schemas['RunStatus'];
export type Session = Schemas['SessionView'];
export type Snapshot = Schemas['SnapshotView'];
export type StartRunForm = Schemas['StartRunForm'];
export type Store = Schemas['StoreView'];
export type StoredRepository = Schemas['StoredRepositoryView'];
export type System = Schemas['SystemView'];
export type TreeEntryView = Schemas['TreeEntryView'];
export type TreeView = Schemas['TreeView'];
export type RepositoryTestView = Schemas['RepositoryTestView'];
export type UpdateRepositoryForm = Schemas['UpdateRepositoryForm'];
