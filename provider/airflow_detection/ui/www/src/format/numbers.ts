import { useLanguage } from "../locales";

export const NONE = "–";
export type NumberKind = "count" | "share" | "number" | "score" | "ms" | "seconds" | "ratio";

const UNITS: [number, string][] = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
];

const plain = (lang: string, value: number, digits: number, least = 0): string => {
  const options = { maximumFractionDigits: digits, minimumFractionDigits: least };
  try {
    return new Intl.NumberFormat(lang, options).format(value);
  } catch {
    return new Intl.NumberFormat("en", options).format(value);
  }
};

/** A length of time in its largest unit of which there are two. */
export const length = (lang: string, seconds: number): string => {
  const unit = UNITS.find(([size]) => Math.abs(seconds) >= 2 * size);
  if (unit) return `${plain(lang, seconds / unit[0], 0)} ${unit[1]}`;
  return `${plain(lang, seconds, Math.abs(seconds) >= 10 ? 0 : 1)} s`;
};

const share = (lang: string, value: number): string => {
  const percent = value * 100;
  const digits = Math.abs(percent) > 0 && Math.abs(percent) < 1 ? 2 : percent < 99.95 ? 1 : 0;
  return `${plain(lang, percent, digits)} %`;
};

/** A number as text in a language; a dash where there is none. */
export const number = (lang: string, value: number | null | undefined, kind: NumberKind = "count"): string => {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  switch (kind) {
    case "share":
      return share(lang, value);
    case "ms":
      return value >= 10_000
        ? `${plain(lang, value / 1000, 1)} s`
        : `${plain(lang, value, value >= 10 ? 0 : 1)} ms`;
    case "seconds":
      return length(lang, value);
    case "ratio":
      return `×${plain(lang, value, 2, 2)}`;
    case "count":
      return plain(lang, value, Number.isInteger(value) ? 0 : 1);
    case "score":
    case "number":
      return plain(lang, value, 3, kind === "score" ? 3 : 0);
  }
};

/** A function that writes numbers in the language of Airflow's own pages. */
export const useNumbers = (): ((value: number | null | undefined, kind?: NumberKind) => string) => {
  const lang = useLanguage();
  return (value, kind) => number(lang, value, kind);
};
