import type { Instant, Role } from "./types";

/** A figure with its 95 % interval. */
export type Interval = { value: number | null; low: number | null; high: number | null };

export type VersionRecord = {
  label: string;
  role: Role | null;
  cycles: number;
  replays: number;
  succeeded: number;
  failed: number;
  skipped: number;
  alerts: number;
  median_ms: number | null;
  p95_ms: number | null;
  canaries: number;
  wrong_canaries: number;
  verdicts: Record<string, number>;
};

export type LabelledRecord = {
  true_positives: number;
  false_positives: number;
  false_negatives: number;
  true_negatives: number;
  precision: Interval;
  recall: Interval;
  f1: Interval;
  average_precision: Interval;
};

export type Condition = {
  name: string;
  state: "passed" | "failed" | "unknown";
  figure: number | null;
  unit: string;
  bound: string;
  reason: string;
};

/** `evidence.comparison.VersionComparison` as JSON, with more values that no page shows. */
export type Comparison = {
  model_id: string;
  cycle_id: string;
  first: VersionRecord;
  second: VersionRecord;
  start: Instant | null;
  end: Instant;
  known_at: Instant;
  above: number;
  cycles: number;
  only_first_cycles: number;
  only_second_cycles: number;
  replayed: number;
  agreement: {
    entities: number;
    scored: number;
    newly_flagged: number;
    lost: number;
    flagged_unseen: number;
    lost_unseen: number;
    top_overlap: number | null;
    p99_difference: number | null;
    coverage: number | null;
    kappa: number | null;
    jaccard: number | null;
  };
  labelled: {
    units: number;
    positives: number;
    only_first_right: number;
    only_second_right: number;
    first: LabelledRecord;
    second: LabelledRecord;
  } | null;
  gate: {
    log_e: number;
    e: number;
    alpha: number;
    has_passed: boolean;
    more_labels: number | null;
    curve: [number, number][];
  } | null;
  decision: { conditions: Condition[]; has_passed: boolean } | null;
};
