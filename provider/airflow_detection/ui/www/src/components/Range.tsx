import { instant, shifted, useZone } from "../format/instants";
import { useTexts } from "../locales";
import type { Key } from "../locales";
import { Choose, TimeField } from "./Fields";
import { useAddress } from "./useAddress";

const LENGTHS = ["6", "24", "168", "720"];
const MINUTE = 1 / 60;

export type Range = { start: string; end: string; hours: string };

/** The range that the address names; else 24 hours up to just after the newest cycle, or until now. */
export const useRange = (newest: string | null | undefined): Range => {
  const [read] = useAddress();
  const hours = LENGTHS.includes(read("hours")) ? read("hours") : "24";
  const end = read("end") || shifted(newest ?? `${new Date().toISOString().slice(0, 16)}:00Z`, newest ? MINUTE : 0);
  return { start: read("start") || shifted(end, -Number(hours)), end, hours };
};

/** The two fields of a range. */
export const RangeFields = ({ range }: { range: Range }) => {
  const t = useTexts();
  const zone = useZone();
  const [read, change] = useAddress();
  const choices = LENGTHS.map((hours) => ({ value: hours, label: t(`range.${hours}` as Key) }));
  if (read("start")) choices.unshift({ value: "", label: `${instant(range.start, zone)} –` });
  return (
    <>
      <Choose label={t("range.length")} width="10rem" value={read("start") ? "" : range.hours} choices={choices}
        onChange={(hours) => { change({ hours, start: "", end: range.end }); }} />
      <TimeField label={t("range.end")} at={range.end} onChange={(end) => { change({ end }); }} />
    </>
  );
};
