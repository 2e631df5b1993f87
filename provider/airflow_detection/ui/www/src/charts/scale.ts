/** A linear scale from [low, high] to [from, to]. */
export const scale = (low: number, high: number, from: number, to: number) => (value: number): number =>
  high === low ? (from + to) / 2 : from + ((value - low) / (high - low)) * (to - from);

/** Round values that cover [low, high], about `count` of them, ascending. */
export const ticks = (low: number, high: number, count = 4): number[] => {
  if (!(high > low)) return [low];
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw) ?? raw;
  const first = Math.floor(low / step);
  const last = Math.ceil(high / step);
  return Array.from({ length: last - first + 1 }, (_, n) => Number(((first + n) * step).toPrecision(12)));
};

/** At most `count` positions of a list of `length`, spread evenly, with the first and the last. */
export const spread = (length: number, count: number): number[] => {
  if (length <= count) return Array.from({ length }, (_, n) => n);
  return [...new Set(Array.from({ length: count }, (_, n) => Math.round((n * (length - 1)) / (count - 1))))];
};

/** Stretches of values without a gap: each a list of positions. */
export const stretches = (values: (number | null)[]): number[][] => {
  const found: number[][] = [];
  let open: number[] | null = null;
  values.forEach((value, n) => {
    if (value === null) open = null;
    else if (open) open.push(n);
    else found.push((open = [n]));
  });
  return found;
};
