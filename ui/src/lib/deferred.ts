// A promise that is settled from outside; older webviews lack Promise.withResolvers.

/** A promise and the two ways to settle it. */
export interface Deferred<T> {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (reason: unknown) => void;
}

/** Makes one. */
export function deferred<T>(): Deferred<T> {
  let resolve!: Deferred<T>['resolve'];
  let reject!: Deferred<T>['reject'];
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  // Whoever does not wait for it must not see it as an unhandled rejection.
  promise.catch(() => {});
  return { promise, resolve, reject };
}
