import { useCallback, useEffect, useState } from "react";

import { type ApiError, asApiError, get } from "./client";
import type { Page } from "./types";

export type Loaded<T> = { data: T | null; error: ApiError | null; isLoading: boolean; reload: () => void };

type State<T> = { path: string | null; data: T | null; error: ApiError | null };

/**
 * What a GET of `path` answers; nothing is asked while it is null. While a new path is asked the answer of the
 * old one is not shown. With `every_s` it is asked again while the page is visible.
 */
export const useApi = <T>(path: string | null, every_s = 0): Loaded<T> => {
  const [state, setState] = useState<State<T>>({ path: null, data: null, error: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (path === null) return undefined;
    const controller = new AbortController();
    get<T>(path, controller.signal)
      .then((data) => {
        setState({ path, data, error: null });
      })
      .catch((error: unknown) => {
        if (controller.signal.aborted) return;
        setState((before) => ({ path, data: before.path === path ? before.data : null, error: asApiError(error) }));
      });
    return () => {
      controller.abort();
    };
  }, [path, round]);
  useEffect(() => {
    if (every_s === 0) return undefined;
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") setRound((n) => n + 1);
    }, every_s * 1000);
    return () => {
      clearInterval(timer);
    };
  }, [every_s]);
  const reload = useCallback(() => {
    setRound((n) => n + 1);
  }, []);
  const isCurrent = state.path === path;
  return {
    data: isCurrent ? state.data : null,
    error: isCurrent ? state.error : null,
    isLoading: path !== null && !isCurrent,
    reload,
  };
};

export type Pages<T> = Loaded<T[]> & { more: (() => void) | null };

type Rest<T> = { path: string | null; items: T[]; next: string | null; error: ApiError | null; isAsking: boolean };

/** A list that comes in pages: the first at once, `more` asks the next. */
export const usePages = <T>(path: string | null): Pages<T> => {
  const first = useApi<Page<T>>(path);
  const [rest, setRest] = useState<Rest<T>>({ path: null, items: [], next: null, error: null, isAsking: false });
  const own = rest.path === path && first.data !== null ? rest : null;
  const next = own && own.items.length > 0 ? own.next : (first.data?.next ?? null);
  const more = () => {
    if (path === null || next === null || own?.isAsking) return;
    const items = own?.items ?? [];
    setRest({ path, items, next, error: null, isAsking: true });
    const glue = path.includes("?") ? "&" : "?";
    get<Page<T>>(`${path}${glue}after=${encodeURIComponent(next)}`)
      .then((page) => {
        setRest((now) =>
          now.path === path ? { path, items: [...items, ...page.items], next: page.next, error: null, isAsking: false } : now,
        );
      })
      .catch((error: unknown) => {
        setRest((now) => (now.path === path ? { path, items, next, error: asApiError(error), isAsking: false } : now));
      });
  };
  const reload = useCallback(() => {
    setRest({ path: null, items: [], next: null, error: null, isAsking: false });
    first.reload();
  }, [first]);
  return {
    data: first.data === null ? null : [...first.data.items, ...(own?.items ?? [])],
    error: first.error ?? own?.error ?? null,
    isLoading: first.isLoading || (own?.isAsking ?? false),
    reload,
    more: next === null ? null : more,
  };
};
