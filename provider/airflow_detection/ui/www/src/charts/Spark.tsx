import { token } from "../components/theme";
import { scale, stretches } from "./scale";

/** A small line of numbers in order of time. */
export const Spark = ({ values, label }: { values: (number | null)[]; label: string }) => {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return <>–</>;
  const x = scale(0, Math.max(1, values.length - 1), 3, 107);
  const y = scale(Math.min(...known), Math.max(...known), 19, 3);
  return (
    <svg role="img" aria-label={label} width="110" height="22" style={{ display: "block" }}>
      {stretches(values).map((places) => (
        <polyline key={places[0]} fill="none" stroke={token("blue.solid")} strokeWidth="1.5" points={places.map((p) => `${x(p)},${y(values[p] ?? 0)}`).join(" ")} />
      ))}
      {values.at(-1) != null && <circle cx={x(values.length - 1)} cy={y(values.at(-1) ?? 0)} r="2.5" fill={token("blue.solid")} />}
    </svg>
  );
};
