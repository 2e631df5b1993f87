import { useSyncExternalStore } from "react";

const STORED = "timezone";
const FIELDS = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" } as const;

type Parts = Record<keyof typeof FIELDS, string>;

const parts = (at: Date, zone: string): Parts => {
  const format = new Intl.DateTimeFormat("en-GB", { ...FIELDS, hourCycle: "h23", timeZone: zone });
  return Object.fromEntries(format.formatToParts(at).map((part) => [part.type, part.value])) as Parts;
};

const known = (zone: string): boolean => {
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone });
    return true;
  } catch {
    return false;
  }
};

const browserZone = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** The zone that the user has chosen in Airflow, else the browser's. */
export const userZone = (): string => {
  try {
    const stored = localStorage.getItem(STORED);
    const zone: unknown = stored === null ? null : JSON.parse(stored);
    return typeof zone === "string" && known(zone) ? zone : browserZone();
  } catch {
    return browserZone();
  }
};

/** An instant in a zone, to the minute, with seconds where they are not 0; the text itself if it is none. */
export const instant = (iso: string, zone: string): string => {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  const p = parts(at, zone);
  const seconds = p.second === "00" ? "" : `:${p.second}`;
  return `${p.year}-${p.month}-${p.day} ${p.hour}:${p.minute}${seconds}`;
};

/** A period as text: the day of the end only where it differs. */
export const period = (start: string, end: string, zone: string): string => {
  const [a, b] = [instant(start, zone), instant(end, zone)];
  return `${a} – ${a.slice(0, 10) === b.slice(0, 10) ? b.slice(11) : b}`;
};

/** The time of the day of an instant, or its day where a range is longer than two days. */
export const tick = (iso: string, zone: string, range_ms: number): string =>
  range_ms > 2 * 86_400_000 ? instant(iso, zone).slice(5, 10) : instant(iso, zone).slice(11, 16);

/** What a field of type datetime-local has for an instant. */
export const toField = (iso: string, zone: string): string => {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return "";
  const p = parts(at, zone);
  return `${p.year}-${p.month}-${p.day}T${p.hour}:${p.minute}`;
};

/** The instant of such a field; null if it is empty. Of a time that a change of clocks repeats, the first. */
export const fromField = (value: string, zone: string): string | null => {
  if (!/^\d{4,6}-\d\d-\d\dT\d\d:\d\d$/.test(value)) return null;
  const wanted = Date.parse(`${value}:00Z`);
  let at = wanted;
  for (let round = 0; round < 3; round += 1) {
    const shown = Date.parse(`${toField(new Date(at).toISOString(), zone)}:00Z`);
    at += wanted - shown;
  }
  return new Date(at).toISOString();
};

/** `hours` before or after an instant. */
export const shifted = (iso: string, hours: number): string =>
  new Date(new Date(iso).getTime() + hours * 3_600_000).toISOString();

const follow = (changed: () => void) => {
  window.addEventListener("storage", changed);
  window.addEventListener("local-storage", changed); // how Airflow's own pages tell of a new zone
  return () => {
    window.removeEventListener("storage", changed);
    window.removeEventListener("local-storage", changed);
  };
};

/** The zone of the user, followed while a page is open. */
export const useZone = (): string => useSyncExternalStore(follow, userZone);
