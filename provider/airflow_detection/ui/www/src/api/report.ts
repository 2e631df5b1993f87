import type { Instant, Status } from "./types";

/** Kinds of values in a stored report (`snapshot.report.Kind`). */
export type Kind =
  | "text" | "code" | "count" | "share" | "number" | "score" | "ms" | "seconds"
  | "instant" | "ratio" | "verdict" | "status" | "spark" | "strip";

export type Scalar = string | number | boolean | null;
export type Cell = Scalar | Scalar[];

export type Fact = { label: string; value: Scalar; kind: Kind; status: Status | null; note: string };

export type ReportTable = {
  title: string;
  columns: { label: string; kind: Kind; weight: number; help: string }[];
  rows: Cell[][];
  marks: (Status | null)[];
  left_out: number;
  empty: string;
  note: string;
};

export type ReportSeries = {
  title: string;
  kind: Kind;
  at: string[];
  lines: { label: string; values: (number | null)[]; hue: number }[];
  is_bars: boolean;
  note: string;
  counts: string;
  is_logarithmic: boolean;
};

export type Section = {
  name: string;
  title: string;
  status: Status;
  summary: string;
  why: string;
  facts: Fact[];
  tables: ReportTable[];
  series: ReportSeries[];
};

export type Report = {
  kind: string;
  taken_at: Instant;
  start: Instant;
  end: Instant;
  headline: string;
  sections: Section[];
  standings: { model_id: string; version: string; role: string; worst: string; last: string; is_bad: boolean }[];
  missed: { start: Instant; end: Instant; hours: number }[];
};
