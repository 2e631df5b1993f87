/** Colours of the host's theme, which follow light and dark; each goes with a shape or a word. */
export const token = (name: string): string => `var(--chakra-colors-${name.replace(".", "-")})`;

export type Tone = "ok" | "attention" | "bad" | "none";

export const PALETTES: Record<Tone, string> = { ok: "green", attention: "orange", bad: "red", none: "gray" };
export const MARKS: Record<Tone, string> = { ok: "✓", attention: "!", bad: "✕", none: "–" };

const BAD_VERDICTS = new Set([
  "DID_NOT_RUN", "FAILED", "SKIPPED_UPSTREAM", "SILENT_FAULT", "INPUT_DEGRADED", "SUSPECT", "SURGE",
]);

/** How much attention a verdict asks. */
export const toneOfVerdict = (kind: string | null): Tone => {
  if (kind === null || kind === "") return "none";
  if (BAD_VERDICTS.has(kind)) return "bad";
  return kind === "OK" || kind === "NO_SIGNAL" ? "ok" : "attention";
};

export const toneOfStatus = (status: string | null): Tone => {
  if (status === null) return "none";
  return status === "ok" || status === "bad" ? status : "attention";
};

/** How much attention the outcome of a run asks. */
export const toneOfOutcome = (outcome: string): Tone =>
  outcome === "SUCCEEDED" ? "ok" : outcome === "FAILED" || outcome === "DID_NOT_RUN" ? "bad" : "attention";

export const toneOfSeverity = (severity: string): Tone =>
  severity === "CRITICAL" || severity === "HIGH" ? "bad" : severity === "MEDIUM" ? "attention" : "none";

/** Colours of lines, in their order. */
export const LINES = ["blue.solid", "orange.solid", "teal.solid", "purple.solid", "red.solid", "gray.solid"].map(token);
