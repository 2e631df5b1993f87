import { Flex, Stack } from "@chakra-ui/react";

import { route } from "../api/client";
import type { EventRow, Overview } from "../api/types";
import { useApi, usePages } from "../api/useApi";
import { Card } from "../components/Card";
import { Choose, TextField } from "../components/Fields";
import { Empty, Ready } from "../components/States";
import { useAddress } from "../components/useAddress";
import { useTexts } from "../locales";
import { EventTable } from "./EventTable";

const STATUSES = ["OPEN", "CLOSED", "RETRACTED"];
const SEVERITIES = ["CRITICAL", "HIGH", "MEDIUM", "LOW"];
const ANY = "any";

/** Events by filters, newest first. */
export const Events = () => {
  const t = useTexts();
  const [read, change] = useAddress();
  const overview = useApi<Overview>(route("overview"));
  const event = read("event");
  const status = read("status") || (event ? ANY : "OPEN");
  const filters = {
    status: status === ANY ? "" : status, severity: read("severity"), model_id: read("model"),
    cycle_id: read("cycle"), entity_id: read("entity"), category: read("category"),
  };
  const listed = usePages<EventRow>(event ? null : route("events", filters));
  const one = useApi<EventRow>(event ? route(`events/${encodeURIComponent(event)}`) : null);
  const loaded = event ? { ...one, data: one.data && [one.data], more: null } : listed;
  const any = { value: "", label: t("field.any") };
  const named = (values: string[]) => values.map((value) => ({ value, label: value }));
  return (
    <Stack gap={4}>
      <Flex gap={3} wrap="wrap" align="flex-end">
        <Choose label={t("field.status")} value={status} choices={[...named(STATUSES), { value: ANY, label: t("field.any") }]} onChange={(value) => { change({ status: value, event: "" }); }} />
        <Choose label={t("field.severity")} value={read("severity")}
          choices={[any, ...named(SEVERITIES)]} onChange={(value) => { change({ severity: value, event: "" }); }} />
        <Choose label={t("field.model")} value={read("model")} choices={[any, ...named((overview.data?.models ?? []).map((model) => model.model_id))]} onChange={(model) => { change({ model, event: "" }); }} />
        <TextField label={t("field.entity")} value={read("entity")} onChange={(entity) => { change({ entity, event: "" }); }} />
      </Flex>
      <Card title={t("tab.events")}>
        <Ready loaded={loaded}>
          {(events) => events.length === 0
            ? <Empty title={t("events.none")}>{t("events.none_do")}</Empty>
            : <EventTable events={events} mayEdit={overview.data?.may_edit ?? []} changed={loaded.reload} more={loaded.more} isLoading={loaded.isLoading} />}
        </Ready>
      </Card>
    </Stack>
  );
};
