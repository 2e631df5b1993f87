/** Shapes of the answers of our routes, under the names that the pages use; `schema.ts` is made of the routes. */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Overview = Schemas["OverviewAnswer"];
export type Headline = Schemas["HeadlineAnswer"];
export type VersionRef = Schemas["VersionRef"];
export type Model = Schemas["ModelAnswer"];
export type ModelSeries = Schemas["SeriesAnswer"];
export type Plan = Schemas["PlanAnswer"];
export type CycleRow = Schemas["CycleRow"];
export type CycleRun = Schemas["CycleRunAnswer"];
export type Findings = Schemas["FindingsAnswer"];
export type OutputRow = Schemas["OutputRow"];
export type DifferingEntity = Schemas["DifferingEntity"];
export type Entity = Schemas["EntityAnswer"];
export type FoundEntities = Schemas["EntitiesFound"];
export type EventRow = Schemas["EventRow"];
export type ReportRow = Schemas["ReportRow"];

export type Role = NonNullable<VersionRef["role"]>;
export type Status = ReportRow["status"];
export type Instant = string;

/** Some rows of a list, and the key that asks for the following ones. */
export type Page<T> = { items: T[]; next: string | null };
