// The theme of VitePress with the fonts of the reader's own system: nothing is fetched for letters.

import theme from "vitepress/theme-without-fonts";
import "./style.css";

export default theme;
