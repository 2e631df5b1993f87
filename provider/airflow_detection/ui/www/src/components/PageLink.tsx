import { Link } from "@chakra-ui/react";
import type { ReactNode } from "react";
import { Link as RouterLink } from "react-router-dom";

/** A link to a page of Airflow, ours or its own, behind whatever prefix it has. */
export const PageLink = ({ to, children, label, color = "fg.info" }: { to: string; children: ReactNode; label?: string; color?: string }) => (
  <Link asChild color={color} textDecoration="underline" textUnderlineOffset="3px" textDecorationColor="border.emphasized" overflowWrap="anywhere">
    <RouterLink to={to} aria-label={label}>{children}</RouterLink>
  </Link>
);
