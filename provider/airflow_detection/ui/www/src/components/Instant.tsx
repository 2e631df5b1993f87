import { chakra } from "@chakra-ui/react";

import { instant, period, useZone } from "../format/instants";
import { NONE } from "../format/numbers";

/** A time in the user's zone; its tooltip says it in UTC. */
export const Instant = ({ at }: { at: string | null | undefined }) => {
  const zone = useZone();
  if (!at) return <>{NONE}</>;
  return (
    <chakra.time dateTime={at} title={`${instant(at, "UTC")} UTC`} whiteSpace="nowrap">
      {instant(at, zone)}
    </chakra.time>
  );
};

/** A period in the user's zone; its tooltip says it in UTC. */
export const Period = ({ start, end }: { start: string; end: string }) => {
  const zone = useZone();
  return (
    <chakra.span title={`${period(start, end, "UTC")} UTC`} whiteSpace="nowrap">
      {period(start, end, zone)}
    </chakra.span>
  );
};
