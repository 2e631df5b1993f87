import { Badge, chakra } from "@chakra-ui/react";
import type { ReactNode } from "react";

import { useTexts } from "../locales";
import type { Key } from "../locales";
import { MARKS, PALETTES, type Tone, toneOfOutcome, toneOfSeverity, toneOfStatus, toneOfVerdict } from "./theme";

/** A word with the shape and the colour of its tone. */
export const Mark = ({ tone, children, title }: { tone: Tone; children: ReactNode; title?: string }) => (
  <Badge
    colorPalette={PALETTES[tone]} variant="subtle" color="colorPalette.fg" title={title} whiteSpace="nowrap"
    borderWidth={tone === "bad" ? "1px" : "0"} borderColor="colorPalette.emphasized" textTransform="none"
  >
    <chakra.span aria-hidden="true" fontWeight="bold">{MARKS[tone]}</chakra.span>
    {children}
  </Badge>
);

export const Verdict = ({ kind }: { kind: string | null }) =>
  kind ? <Mark tone={toneOfVerdict(kind)}>{kind}</Mark> : <>–</>;

/** An outcome where there is little room: the usual one is a mark alone, with its word for who asks. */
export const ShortOutcome = ({ outcome }: { outcome: string }) =>
  outcome === "SUCCEEDED" ? (
    <chakra.span role="img" aria-label={outcome} title={outcome} colorPalette="green" color="colorPalette.fg" fontWeight="bold">{MARKS.ok}</chakra.span>
  ) : <Outcome outcome={outcome} />;

export const Outcome = ({ outcome }: { outcome: string }) => <Mark tone={toneOfOutcome(outcome)}>{outcome}</Mark>;

export const Severity = ({ severity }: { severity: string }) => <Mark tone={toneOfSeverity(severity)}>{severity}</Mark>;

export const StatusMark = ({ status }: { status: string }) => {
  const t = useTexts();
  return <Mark tone={toneOfStatus(status)}>{t(`status.${status}` as Key) || status}</Mark>;
};

/** The role of a version, as a word with a frame of its own. */
export const RoleMark = ({ role }: { role: string | null }) => {
  const t = useTexts();
  return (
    <Badge
      variant="outline" whiteSpace="nowrap" textTransform="none" colorPalette={role === "PRIMARY" ? "blue" : "gray"} color="colorPalette.fg"
      borderStyle={role === "PRIMARY" ? "solid" : "dashed"} borderWidth="1px" borderColor="colorPalette.emphasized" boxShadow="none"
    >
      {t(role === null ? "role.none" : (`role.${role}` as Key))}
    </Badge>
  );
};
