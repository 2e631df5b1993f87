import { Link } from "@chakra-ui/react";
import type { ReactNode } from "react";
import { Link as RouterLink } from "react-router-dom";

/** A link to a page of Airflow, ours or its own, behind whatever prefix it has. */
export const PageLink = ({ to, children, label }: { to: string; children: ReactNode; label?: string }) => (
  <Link asChild color="fg.info" textDecoration="underline" textUnderlineOffset="3px" textDecorationColor="border.emphasized" overflowWrap="anywhere">
    <RouterLink to={to} aria-label={label}>{children}</RouterLink>
  </Link>
);
