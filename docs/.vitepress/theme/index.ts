/** @file The theme that comes with VitePress, with more room for tables. */
import theme from "vitepress/theme";
import "./tables.css";

export default theme;
