import { Box, Field, Flex, Stack, Textarea } from "@chakra-ui/react";
import { useState } from "react";

import { post, route } from "../api/client";
import type { EventRow } from "../api/types";
import { Ask } from "../components/Ask";
import { DataTable } from "../components/DataTable";
import { Evidence } from "../components/Evidence";
import { Instant } from "../components/Instant";
import { Mark, Severity } from "../components/Mark";
import { PageLink } from "../components/PageLink";
import { Id, Text } from "../components/Text";
import { toneOfSeverity } from "../components/theme";
import { useNumbers } from "../format/numbers";
import { links } from "../links";
import { useTexts } from "../locales";

const Change = ({ event, what, changed }: { event: EventRow; what: "acknowledge" | "close"; changed: () => void }) => {
  const t = useTexts();
  const [reason, setReason] = useState("");
  return (
    <Ask label={t(`events.${what}`)} title={t(`events.${what}_of`, { id: event.event_id })} sendLabel={t(`events.${what}`)} done={changed} canSend={what === "acknowledge" || reason.trim() !== ""}
      send={async () => {
        await post(route(`events/${event.event_id}/${what}`), { reason: reason.trim() });
        return <Box role="status">{t("events.done")}</Box>;
      }}>
      <Field.Root required={what === "close"}>
        <Field.Label>{t("field.reason")}</Field.Label>
        <Textarea value={reason} dir="auto" rows={3} onChange={(change) => { setReason(change.target.value); }} />
      </Field.Root>
    </Ask>
  );
};

const Actions = ({ event, changed }: { event: EventRow; changed: () => void }) => (
  <Flex gap={1} wrap="wrap">
    {!event.acknowledged_at && <Change event={event} what="acknowledge" changed={changed} />}
    <Change event={event} what="close" changed={changed} />
  </Flex>
);

/** Status of an event, who acknowledged or closed it, and what they said. */
const State = ({ event }: { event: EventRow }) => {
  const t = useTexts();
  return (
    <Stack gap={0} fontSize="sm">
      <Box><Mark tone={event.status === "OPEN" ? "attention" : "none"}>{event.status}</Mark></Box>
      {event.acknowledged_at && (
        <Box color="fg.muted">{t("events.acknowledged")} <Instant at={event.acknowledged_at} /> <Text value={event.acknowledged_by ?? ""} max={40} /></Box>
      )}
      {event.closed_by && <Box color="fg.muted">{t("events.closed")} <Text value={event.closed_by} max={40} /></Box>}
      {event.note && <Text value={event.note} max={100} />}
    </Stack>
  );
};

/** Events with their age, evidence, and what may be done about them. */
export const EventTable = ({ events, mayEdit, changed, more, isLoading }: {
  events: EventRow[]; mayEdit: string[]; changed: () => void; more?: (() => void) | null; isLoading?: boolean;
}) => {
  const t = useTexts();
  const n = useNumbers();
  const columns = [
    { label: t("field.entity"), isShort: true }, { label: t("field.severity") }, { label: t("field.model"), isShort: true }, { label: t("field.score"), isNumber: true },
    { label: t("events.age"), isShort: true }, { label: t("field.status") }, { label: t("field.evidence") },
  ];
  const age = (event: EventRow) => Math.max(0, (Date.parse(event.last_seen_at) - Date.parse(event.first_seen_at)) / 1000);
  return (
    <DataTable label={t("tab.events")} columns={columns} more={more} isLoading={isLoading}
      rows={events.map((event) => ({
        key: event.event_id, tone: event.status === "OPEN" && event.severity === "CRITICAL" ? toneOfSeverity(event.severity) : null,
        cells: [
          <PageLink key="e" to={links.entity(event.entity_id, event.cycle_id)}><Id value={event.entity_id} max={40} /></PageLink>,
          <Stack key="s" gap={0} align="flex-start"><Severity severity={event.severity} />{event.category !== event.model_id && <Text value={event.category} max={40} />}</Stack>,
          <PageLink key="m" to={links.model(event.model_id)}><Id value={event.model_id} max={40} /></PageLink>,
          n(event.score, "score"),
          <Stack key="a" gap={0} fontSize="sm" title={`${t("events.first_seen")} – ${t("events.last_seen")}`}>
            <Instant at={event.first_seen_at} />
            <Box color="fg.muted">{n(age(event), "seconds")}</Box>
          </Stack>,
          <Stack key="t" gap={1}><State event={event} />{mayEdit.includes(event.cycle_id) && event.status === "OPEN" && <Actions event={event} changed={changed} />}</Stack>,
          <Evidence key="v" values={event.evidence} without={["entity_id", "score", "severity"]} />,
        ],
      }))} />
  );
};
