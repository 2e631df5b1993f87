/** Refusal of a server, or that none answered; `detail` is its sentence. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly detail: string,
  ) {
    super(detail);
  }
}

export type Query = Record<string, string | number | boolean | null | undefined>;

/** A path with its query; what is empty is left out. Paths are relative: they work behind a prefix. */
export const withQuery = (path: string, query: Query = {}): string => {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") params.set(name, String(value));
  }
  const text = params.toString();
  return text ? `${path}?${text}` : path;
};

/** The address of one of our routes, relative to the document's base. */
export const route = (path: string, query?: Query): string => `detection/api/${withQuery(path, query)}`;

const detailOf = async (answer: Response): Promise<string> => {
  const fallback = `${answer.status} ${answer.statusText}`.trim();
  try {
    const body = (await answer.json()) as { detail?: unknown };
    if (typeof body.detail === "string") return body.detail;
    return body.detail === undefined ? fallback : JSON.stringify(body.detail);
  } catch {
    return fallback;
  }
};

const call = async <T>(path: string, init: RequestInit): Promise<T> => {
  let answer: Response;
  try {
    answer = await fetch(new URL(path, document.baseURI), { credentials: "same-origin", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError(0, "");
  }
  if (!answer.ok) throw new ApiError(answer.status, await detailOf(answer));
  return (await answer.json()) as T;
};

/** GET a JSON value. */
export const get = <T>(path: string, signal?: AbortSignal): Promise<T> =>
  call<T>(path, { headers: { Accept: "application/json" }, signal: signal ?? null });

/** POST a JSON value, and return the JSON value of the answer. */
export const post = <T>(path: string, body: unknown): Promise<T> =>
  call<T>(path, {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

/** An error as ApiError, whatever was thrown. */
export const asApiError = (error: unknown): ApiError =>
  error instanceof ApiError ? error : new ApiError(0, error instanceof Error ? error.message : String(error));
