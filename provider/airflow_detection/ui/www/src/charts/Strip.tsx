import { MARKS, token, type Tone } from "../components/theme";
import { visible } from "../format/text";

export type StripCell = { tone: Tone; title: string };

const FILLS: Record<Tone, string> = { ok: token("green.solid"), attention: token("orange.400"), bad: token("red.solid"), none: "none" };
const HEIGHTS: Record<Tone, number> = { ok: 16, attention: 11, bad: 20, none: 16 };

/** Verdicts in order of time: each a bar, whose height and mark say what its colour says. */
export const Strip = ({ cells, label, width = 9 }: { cells: StripCell[]; label: string; width?: number }) => (
  <svg role="img" aria-label={visible(label)} width={cells.length * (width + 2)} height={22} style={{ display: "block", maxWidth: "100%" }} viewBox={`0 0 ${Math.max(1, cells.length * (width + 2))} 22`} preserveAspectRatio="xMinYMid meet">
    {cells.map((cell, n) => (
      <g key={n}>
        <title>{visible(cell.title)}</title>
        <rect x={n * (width + 2) + 0.5} y={21 - HEIGHTS[cell.tone]} width={width - 1} height={HEIGHTS[cell.tone] - 1} rx="1.5"
          fill={FILLS[cell.tone]} stroke={cell.tone === "none" ? token("border.emphasized") : FILLS[cell.tone]} strokeDasharray={cell.tone === "none" ? "2 2" : undefined} />
        {cell.tone === "bad" && width >= 8 && (
          <text x={n * (width + 2) + width / 2} y="14.5" textAnchor="middle" style={{ fontSize: "9px", fontWeight: "bold" }} fill="white">{MARKS.bad}</text>
        )}
      </g>
    ))}
  </svg>
);
