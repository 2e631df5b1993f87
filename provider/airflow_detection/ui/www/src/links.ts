import { withQuery } from "./api/client";

const PAGE = "/plugin/detection";

export type View = "overview" | "model" | "compare" | "entity" | "events" | "reports" | "cycle" | "findings";

const page = (view: View, query: Record<string, string | number | boolean | null | undefined> = {}): string =>
  withQuery(PAGE, { view, ...query });

/** Addresses of pages, relative to Airflow's own (behind its prefix). */
export const links = {
  overview: () => page("overview"),
  view: (view: View) => page(view),
  model: (model: string) => page("model", { model }),
  compare: (first?: string, second?: string) => page("compare", { first, second }),
  entity: (entity: string, cycle?: string) => page("entity", { entity, cycle }),
  events: (filters: { severity?: string; status?: string; model?: string; event?: number } = {}) =>
    page("events", filters),
  report: (snapshot?: number) => page("reports", { snapshot }),
  cycle: (cycle: string, at?: string) => page("cycle", { cycle, at }),
  findings: (model: string, version: string, at: string, replay: boolean) =>
    page("findings", { model, version, at, replay }),
  dag: (dag_id: string) => `/dags/${encodeURIComponent(dag_id)}`,
  run: (dag_id: string, run_id: string) => `/dags/${encodeURIComponent(dag_id)}/runs/${encodeURIComponent(run_id)}`,
  task: (dag_id: string, run_id: string, task_id: string, tab = "") =>
    `/dags/${encodeURIComponent(dag_id)}/runs/${encodeURIComponent(run_id)}/tasks/${encodeURIComponent(task_id)}${tab && `/${tab}`}`,
};

/** The two parts of `model@version`; the version has no `@`. */
export const splitLabel = (label: string): { model: string; version: string } => {
  const at = label.lastIndexOf("@");
  return at < 0 ? { model: label, version: "" } : { model: label.slice(0, at), version: label.slice(at + 1) };
};
